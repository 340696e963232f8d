package auth

import "github.com/slipway-ci/slipway/shared/ci"

// Permission is what a method asks for.
type Permission string

// The permissions.
const (
	Read    Permission = "read"    // look at runs, logs, artifacts and the fleet
	Operate Permission = "operate" // start runs and control them
)

var roleFor = map[Permission]ci.Role{Read: ci.RoleViewer, Operate: ci.RoleMember}

// methods is the one place that says what a method asks for. A method that is
// not here is refused, and a test fails on any that is missing.
var methods = map[string]Permission{
	"/slipway.v1.RunService/SubmitRun":     Operate,
	"/slipway.v1.RunService/GetRun":        Read,
	"/slipway.v1.RunService/ListRuns":      Read,
	"/slipway.v1.RunService/WatchRun":      Read,
	"/slipway.v1.RunService/CancelRun":     Operate,
	"/slipway.v1.RunService/RetryRun":      Operate,
	"/slipway.v1.RunService/SkipStep":      Operate,
	"/slipway.v1.RunService/CancelStep":    Operate,
	"/slipway.v1.RunService/ExplainStep":   Read,
	"/slipway.v1.RunService/ReadLog":       Read,
	"/slipway.v1.RunService/ListArtifacts": Read,
	"/slipway.v1.RunService/GetArtifact":   Read,
	"/slipway.v1.RunService/CreateUpload":  Operate,

	"/slipway.v1.AdminService/GetInfo":    Read,
	"/slipway.v1.AdminService/ListAgents": Read,
	"/slipway.v1.AdminService/GetAgent":   Read,
	"/slipway.v1.AdminService/ListAudit":  Read,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      Read,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Read,
}
