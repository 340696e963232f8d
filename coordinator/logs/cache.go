package logs

import "sync"

// cacheBytes bounds the chunks that are kept unpacked: without them, a reader
// that pages through a large chunk would fetch and unpack it once per page.
const cacheBytes = 64 << 20

// chunkCache keeps the chunks used last. Chunks never change once written.
type chunkCache struct {
	mu    sync.Mutex
	order []string // the one used last is at the end
	byKey map[string]*chunk
	bytes int
}

func (c *chunkCache) get(key string) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.byKey[key]
	if found != nil {
		c.drop(key)
		c.order = append(c.order, key)
	}
	return found
}

func (c *chunkCache) put(key string, add *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if add.size() > cacheBytes || c.byKey[key] != nil {
		return
	}
	if c.byKey == nil {
		c.byKey = map[string]*chunk{}
	}
	c.byKey[key] = add
	c.order = append(c.order, key)
	c.bytes += add.size()
	for c.bytes > cacheBytes {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.bytes -= c.byKey[oldest].size()
		delete(c.byKey, oldest)
	}
}

// drop takes a key out of the order; there are few.
func (c *chunkCache) drop(key string) {
	for i, k := range c.order {
		if k == key {
			c.order = append(c.order[:i], c.order[i+1:]...)
			return
		}
	}
}
