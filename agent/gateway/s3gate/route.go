package s3gate

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// operation is one of the few things a step may do. A request is that
// operation whose method, level and query parameters it has; whatever fits
// none is denied, so an S3 feature unknown here is denied too.
type operation struct {
	name   string
	method string
	object bool     // on a key, or on the bucket
	need   []string // query parameters that make it this operation
	may    []string // those it may have besides
	writes bool
}

var operations = []operation{
	{name: "HeadBucket", method: http.MethodHead},
	{name: "GetBucketLocation", method: http.MethodGet, need: []string{"location"}},
	{
		name: "ListObjectsV2", method: http.MethodGet, need: []string{"list-type"},
		may: []string{"prefix", "delimiter", "start-after", "continuation-token", "max-keys", "encoding-type", "fetch-owner"},
	},
	{
		name: "ListObjects", method: http.MethodGet,
		may: []string{"prefix", "delimiter", "marker", "max-keys", "encoding-type"},
	},
	{name: "DeleteObjects", method: http.MethodPost, need: []string{"delete"}, writes: true},
	{name: "HeadObject", method: http.MethodHead, object: true, may: objectReads},
	{name: "GetObject", method: http.MethodGet, object: true, may: objectReads},
	{
		name: "ListParts", method: http.MethodGet, object: true, need: []string{"uploadId"},
		may: []string{"max-parts", "part-number-marker", "encoding-type"},
	},
	{name: "GetObjectAcl", method: http.MethodGet, object: true, need: []string{"acl"}},
	{name: "PutObject", method: http.MethodPut, object: true, writes: true},
	{name: "UploadPart", method: http.MethodPut, object: true, need: []string{"partNumber", "uploadId"}, writes: true},
	{name: "CreateMultipartUpload", method: http.MethodPost, object: true, need: []string{"uploads"}, writes: true},
	{name: "CompleteMultipartUpload", method: http.MethodPost, object: true, need: []string{"uploadId"}, writes: true},
	{name: "AbortMultipartUpload", method: http.MethodDelete, object: true, need: []string{"uploadId"}, writes: true},
	{name: "DeleteObject", method: http.MethodDelete, object: true, writes: true},
}

var objectReads = []string{
	"partNumber", "response-cache-control", "response-content-disposition", "response-content-encoding",
	"response-content-language", "response-content-type", "response-expires",
}

// fleetObjects are the agent's own below the prefix: the truth about an
// attempt must not be written by the attempt.
var fleetObjects = []string{"status.json", "state.json"}

// call is a request that is allowed.
type call struct {
	operation
	bucket, key string
	query       url.Values // what goes on to the store
}

// route decides what a request asks for and whether the caller may.
func route(r *http.Request, query url.Values, g *grant) (*call, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket != g.Bucket {
		return nil, denied("This access key is for bucket %s only.", g.Bucket)
	}
	c := &call{bucket: bucket, key: key, query: url.Values{}}
	names := []string{}
	for name, values := range query {
		// The first two say nothing that the rest of the request does not.
		if name == "x-id" || strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		if len(values) != 1 {
			return nil, invalid("The query parameter %q is given more than once.", name)
		}
		names = append(names, name)
		c.query[name] = values
	}
	at := slices.IndexFunc(operations, func(op operation) bool { return op.fits(r.Method, key != "", names) })
	if at < 0 {
		return nil, denied("This operation is not available to a step: objects below %s can be written, read, listed and deleted.", g.Prefix)
	}
	c.operation = operations[at]
	if !c.object {
		return c, c.checkList(g)
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if !g.holds(key) {
		return nil, denied("This access key reaches only keys below %s/.", g.Prefix)
	}
	if c.writes {
		if err := g.checkFleetObject(key); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (op operation) fits(method string, object bool, names []string) bool {
	if op.method != method || op.object != object {
		return false
	}
	for _, name := range op.need {
		if !slices.Contains(names, name) {
			return false
		}
	}
	for _, name := range names {
		if !slices.Contains(op.need, name) && !slices.Contains(op.may, name) {
			return false
		}
	}
	return true
}

// checkList keeps a listing below the prefix. The prefix itself without its
// slash would list its neighbours: 1-7 is the beginning of 1-70.
func (c *call) checkList(g *grant) error {
	if c.name != "ListObjects" && c.name != "ListObjectsV2" {
		return nil
	}
	prefix := c.query.Get("prefix")
	if !strings.HasPrefix(prefix, g.Prefix+"/") {
		return denied("This access key lists only prefixes that begin with %s/.", g.Prefix)
	}
	return checkKey(prefix)
}

// holds says whether a key lies below the prefix.
func (g *grant) holds(key string) bool {
	return strings.HasPrefix(key, g.Prefix+"/") && len(key) > len(g.Prefix)+1
}

// name is a key's name below the prefix.
func (g *grant) name(key string) string { return strings.TrimPrefix(key, g.Prefix+"/") }

func (g *grant) checkFleetObject(key string) error {
	// Also below: on a store of files, status.json/x bars status.json.
	first, _, _ := strings.Cut(g.name(key), "/")
	if slices.Contains(fleetObjects, first) {
		return denied("%s is written by the agent alone; a step reports through report.json or complete.", first)
	}
	return nil
}

// checkKey refuses keys that some store or proxy might read as another key.
func checkKey(key string) error {
	if key == "" || len(key) > 1024 || !utf8.ValidString(key) {
		return invalid("The key must be 1 to 1024 bytes of UTF-8.")
	}
	// One slash at the end is a folder's marker, as some clients make them.
	for part := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return invalid("The key has an empty part, or one of . and .. in it.")
		}
	}
	lower := strings.ToLower(key)
	for _, trick := range []string{"%2e", "%2f", "%5c", "%00", "%25", `\`} {
		if strings.Contains(lower, trick) {
			return invalid("The key has %q in it, which may be read in two ways.", trick)
		}
	}
	if strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return invalid("The key has control characters in it.")
	}
	return nil
}
