// Package auth says who calls the API and what they may do.
package auth

import (
	"context"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Principal is a caller whose token is known.
type Principal struct {
	Actor  ci.Actor
	Role   ci.Role
	Tenant ci.TenantID // the only one the caller sees; empty is every tenant
}

type key struct{}

// With returns a context that carries p.
func With(ctx context.Context, p Principal) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the caller. Behind the interceptor there always is one; the zero
// Principal may do nothing.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(key{}).(Principal)
	return p
}

// ranks order the roles; each has all rights of those below.
var ranks = map[ci.Role]int{ci.RoleViewer: 1, ci.RoleMember: 2, ci.RoleAdmin: 3}

// Can reports whether the principal holds the permission.
func (p Principal) Can(need Permission) bool {
	want, known := roleFor[need]
	return known && ranks[p.Role] >= ranks[want]
}
