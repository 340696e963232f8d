package state

import (
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// keyLife is how long an idempotency key is kept, in cluster time.
const keyLife = 24 * time.Hour

// idleLife is how long a workflow is kept that no run uses, in cluster time.
const idleLife = time.Hour

// maxSweep bounds what one entry sweeps away, so that none takes long.
const maxSweep = 100

type keyID struct {
	Tenant ci.TenantID
	Key    string
}

func (k keyID) less(o keyID) bool {
	if k.Tenant != o.Tenant {
		return k.Tenant < o.Tenant
	}
	return k.Key < o.Key
}

// keyRow remembers what a command with a key did.
type keyRow struct {
	Tenant ci.TenantID
	Key    string
	Op     string
	Object string
	At     ci.ClusterTime
}

// maxKey bounds an idempotency key, in bytes.
const maxKey = 256

// checkKey refuses keys that could not stand in an index.
func checkKey(key string) error {
	if len(key) > maxKey || strings.Contains(key, sep) {
		return ci.FieldErrorf(ci.Invalid, "idempotency_key", "cannot take this idempotency key: it must have at most %d bytes and no zero byte", maxKey)
	}
	return nil
}

// keyed is an op that may come with an idempotency key.
type keyed interface {
	// subject returns the tenant that the key belongs to and the object that
	// View.Key shall answer; ok is false when there is no such thing.
	subject(*tables) (tenant ci.TenantID, object string, ok bool)
}

// sweep drops keys that are too old, and workflows that nobody uses.
func (t *tables) sweep(now ci.ClusterTime) {
	old := firstOf(t.keys.indexes[keysByAge], now, keyLife)
	for _, s := range old {
		p := split(s)
		t.keys.delete(keyID{ci.TenantID(p[1]), p[2]})
	}
	for _, s := range firstOf(t.workflows.indexes[idleByAge], now, idleLife) {
		t.workflows.delete(split(s)[1])
	}
}

func firstOf[V any](x *index[V], now ci.ClusterTime, life time.Duration) []string {
	if now < ci.ClusterTime(life) {
		return nil
	}
	limit := sortable(now.Add(-life))
	var out []string
	x.ascend("", func(s string) bool {
		if s[:len(limit)] >= limit || len(out) == maxSweep {
			return false
		}
		out = append(out, s)
		return true
	})
	return out
}
