package main_test

// The layer rule: who may import whom, and why not. Rings, from the inside out:
//
//	0 std only      1 libraries      2 state      3 deciders and adapters
//	4 roots (coordinator, agent)     5 cmd
//
// Packages of ring 3 do not know their siblings, coordinator and agent do not
// know each other, and shared knows neither. A folder without a row fails: a new
// package is a decision, taken here.

// row is what one package may do.
type row struct {
	ring int
	// pure: a function of its arguments. No clock, no randomness, no goroutine,
	// no file, no network, no log; see pureStd and pureCalls.
	pure bool
	// helper: only tests and other helpers may import it.
	helper bool
	// generated code is read by no rule but the layer rule.
	generated bool
	// may lists imports inside the module beyond everyone; "x/*" means all below x.
	may []string
}

// everyone may be imported by every package of ring 1 and above that is not pure;
// pure ones have purest.
var (
	everyone = []string{"shared/ci", "shared/id", "shared/version", "shared/lifecycle", "shared/metric"}
	purest   = []string{"shared/ci", "shared/expr"}
)

var packages = map[string]row{
	"shared/ci":                          {ring: 0, pure: true},
	"shared/id":                          {ring: 1},
	"shared/version":                     {ring: 0},
	"shared/lifecycle":                   {ring: 1},
	"shared/dirlock":                     {ring: 1},
	"shared/needs":                       {ring: 1, helper: true},
	"shared/expr":                        {ring: 1, pure: true, may: []string{"shared/expr/suggest"}},
	"shared/expr/suggest":                {ring: 1, pure: true},
	"shared/spec":                        {ring: 1, may: []string{"shared/expr", "shared/expr/suggest"}},
	"shared/logpath":                     {ring: 1},
	"shared/objectstore":                 {ring: 1},
	"shared/objectstore/objectstoretest": {ring: 1, helper: true, may: []string{"shared/objectstore", "shared/needs"}},
	"shared/objectstore/s3dev":           {ring: 1, may: []string{"shared/objectstore"}},
	"shared/objectstore/s3dev/s3devtest": {ring: 1, helper: true, may: []string{"shared/objectstore", "shared/objectstore/s3dev"}},
	"shared/gossip":                      {ring: 1},
	"shared/pki":                         {ring: 1},
	"shared/wire":                        {ring: 1, may: []string{"proto/*"}},
	"proto/slipway/v1":                   {ring: 1, generated: true},
	"proto/slipway/v1/slipwayv1connect":  {ring: 1, generated: true, may: []string{"proto/slipway/v1"}},

	"coordinator/state":     {ring: 2, pure: true},
	"coordinator/consensus": {ring: 3, may: []string{"coordinator/state", "shared/*", "proto/*"}},
	"coordinator/engine":    {ring: 3, may: []string{"coordinator/state", "shared/expr", "shared/logpath"}},
	"coordinator/queue":     {ring: 3, pure: true},
	"coordinator/scheduler": {ring: 3, may: []string{"coordinator/state", "coordinator/queue", "shared/expr"}},
	"coordinator/dispatch":  {ring: 3, may: []string{"coordinator/state", "shared/*", "proto/*"}},
	"coordinator/auth":      {ring: 3, may: []string{"coordinator/state", "shared/*"}},
	"coordinator/logs":      {ring: 3, may: []string{"coordinator/state", "shared/*"}},
	"coordinator/api":       {ring: 3, may: []string{"coordinator/state", "shared/*", "proto/*"}},
	"coordinator":           {ring: 4, may: []string{"coordinator/*", "shared/*"}},

	"agent/runtime":             {ring: 1},
	"agent/runtime/runtimetest": {ring: 1, helper: true, may: []string{"agent/runtime", "shared/needs"}},
	"agent/runtime/docker":      {ring: 3, may: []string{"agent/runtime", "agent/stepinit"}},
	"agent/runtime/process":     {ring: 3, may: []string{"agent/runtime", "agent/stepinit"}},
	"agent/stepinit":            {ring: 0},
	"agent/stepinit/embedded":   {ring: 0},
	"agent/supervisor":          {ring: 3, may: []string{"agent/runtime", "shared/logpath"}},
	"agent/session":             {ring: 3, may: []string{"shared/*", "proto/*"}},
	"agent/checkout":            {ring: 3, may: []string{"shared/objectstore", "shared/logpath"}},
	"agent/cache":               {ring: 3},
	"agent/logship":             {ring: 3, may: []string{"agent/runtime", "shared/objectstore", "shared/logpath"}},
	"agent/host":                {ring: 3},
	"agent/gateway":             {ring: 3, may: []string{"agent/gateway/*", "shared/*"}},
	"agent/gateway/s3gate":      {ring: 3, may: []string{"shared/objectstore", "shared/logpath"}},
	"agent/gateway/stepapi":     {ring: 3, may: []string{"shared/logpath"}},
	"agent":                     {ring: 4, may: []string{"agent/*", "shared/*"}},

	"cmd/slipway":      {ring: 5, may: []string{"*"}},
	"cmd/slipway-init": {ring: 5, may: []string{"agent/stepinit"}},
}

// prefixes are for folders of which there are many: one row for all below.
var prefixes = map[string]row{
	"cmd/slipway/": {ring: 5, may: []string{"*"}},
}

// never are bans that hold whatever a row says, tests included.
var never = []struct{ from, to, why string }{
	{"agent", "coordinator", "an agent runs where no coordinator does; they meet on the wire only"},
	{"coordinator", "agent", "a coordinator must not know how steps are run; they meet on the wire only"},
	{"shared", "coordinator", "shared is below both roots"},
	{"shared", "agent", "shared is below both roots"},
	{"shared", "cmd", "nothing imports a program"},
	{"coordinator", "cmd", "nothing imports a program"},
	{"agent", "cmd", "nothing imports a program"},
}

// lib is one outside library: where it may be used, and why nowhere else.
type lib struct {
	path string
	// only lists packages ("x/*": all below x; "*": any that is not pure, beside
	// the pure ones that are named);
	// empty means tests and helpers alone.
	only []string
	why  string
}

var libs = []lib{
	{"charm.land/lipgloss", []string{"cmd/*"}, "how things look is the command line's alone"},
	{"connectrpc.com/connect", []string{"shared/wire", "coordinator/dispatch", "coordinator/api", "coordinator/auth", "coordinator/consensus", "agent/session", "proto/*", "cmd/*"}, "only edges speak RPC; what decides must not know of a wire"},
	{"connectrpc.com/grpcreflect", []string{"coordinator/api"}, "one place mounts the API"},
	{"filippo.io/age", nil, "no secrets yet"},
	{"github.com/aws/aws-sdk-go-v2", []string{"shared/objectstore", "shared/objectstore/s3dev"}, "a bucket is an interface of ours, so that another store is one package away (the embedded server's backend is written in the SDK's types)"},
	{"github.com/aws/smithy-go", []string{"shared/objectstore"}, "part of the S3 client"},
	{"github.com/bmatcuk/doublestar", []string{"*", "shared/expr"}, "globs of one kind everywhere (expr: in a file system that it is given)"},
	{"github.com/cenkalti/backoff", []string{"*"}, "one way to wait between tries"},
	{"github.com/containerd/errdefs", []string{"agent/runtime/docker"}, "the errors of the Docker client"},
	{"github.com/distribution/reference", []string{"agent/runtime/docker", "shared/spec"}, "image names are resolved where images are pulled, and checked where they are written"},
	{"github.com/docker/docker", []string{"agent/runtime/docker"}, "the engine is behind agent/runtime, so that steps run without it too"},
	{"github.com/docker/go-connections", []string{"agent/runtime/docker"}, "part of the Docker client"},
	{"github.com/opencontainers/image-spec", []string{"agent/runtime/docker"}, "part of the Docker client"},
	{"github.com/docker/go-units", []string{"*"}, "sizes read by people"},
	{"github.com/expr-lang/expr", []string{"shared/expr"}, "one typed environment for conditions, or two places disagree on what an expression means"},
	{"github.com/fxamacker/cbor", []string{"coordinator/state", "coordinator/consensus", "shared/wire"}, "the encoding of the log, of snapshots, and of the nouns that an assignment carries whole"},
	{"github.com/google/go-cmp", nil, "panics by design: for tests"},
	{"github.com/google/go-containerregistry", []string{"cmd/*"}, "the registry of `slipway dev`; a coordinator serves no images"},
	{"github.com/hashicorp/go-hclog", []string{"coordinator/consensus"}, "Raft's logger, turned into slog"},
	{"github.com/hashicorp/go-metrics", []string{"coordinator/consensus"}, "Raft's figures"},
	{"github.com/hashicorp/memberlist", []string{"shared/gossip"}, "gossip is an address book and a hint; who sees its types would trust it"},
	{"github.com/hashicorp/raft", []string{"coordinator/consensus"}, "state must be testable without a cluster"},
	{"github.com/hashicorp/raft-wal", []string{"coordinator/consensus"}, "the log store is a detail of consensus"},
	{"github.com/johannesboyne/gofakes3", nil, "accepts wrong secrets: a second opinion in tests, never a server"},
	{"github.com/klauspost/compress", []string{"*", "coordinator/state"}, "zstd; the state keeps workflows packed (whole buffers: no stream, no goroutine)"},
	{"github.com/oklog/ulid", []string{"shared/id"}, "one kind of id, made in one place"},
	{"github.com/rogpeppe/go-internal", nil, "scripts drive the real binary from tests"},
	{"github.com/spf13/cobra", []string{"cmd/*"}, "only a program has a command line"},
	{"github.com/spf13/pflag", []string{"cmd/*"}, "only a program has flags"},
	{"github.com/tidwall/btree", []string{"coordinator/state", "coordinator/queue"}, "tables are the state's, and the order is the queue's; everybody else gets values"},
	{"github.com/versity/versitygw", []string{"shared/objectstore/s3dev"}, "18 MB of server that only dev and tests want"},
	{"github.com/gofiber/fiber", []string{"shared/objectstore/s3dev"}, "part of the embedded S3 server"},
	{"go.uber.org/goleak", nil, "a check of tests"},
	{"go.yaml.in/yaml", []string{"shared/spec", "cmd/*"}, "everything else sees a parsed workflow; the command line prints and reads its own configuration"},
	{"golang.org/x/mod", []string{"cmd/*"}, "versions of modules"},
	{"golang.org/x/sync", []string{"*"}, "errgroup and semaphore"},
	{"golang.org/x/sys", []string{"*"}, "system calls"},
	{"golang.org/x/term", []string{"cmd/*"}, "only a program has a terminal"},
	{"golang.org/x/time", []string{"*"}, "rate limits"},
	{"golang.org/x/tools", nil, "txtar in tests"},
	{"google.golang.org/protobuf", []string{"proto/*", "shared/wire", "coordinator/dispatch", "coordinator/api", "coordinator/consensus", "agent/session", "cmd/*"}, "the domain is Go; proto is only the wire"},
	{"pgregory.net/rapid", nil, "property tests"},
}

// pureStd are parts of the standard library that a pure package must not import.
var pureStd = map[string]string{
	"crypto/rand": "randomness enters only inside commands",
	"log":         "what is decided must not depend on who listens, nor be slow",
	"log/slog":    "what is decided must not depend on who listens, nor be slow",
	"math/rand":   "randomness enters only inside commands",
	"net":         "a decision reads its arguments",
	"os":          "a decision reads its arguments",
	"runtime":     "a decision must not depend on the machine",
	"syscall":     "a decision must not depend on the machine",
	"unsafe":      "no reason is good enough",
}

// pureCalls are functions of package time that read a clock or start a timer.
var pureCalls = map[string]bool{
	"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true,
	"Sleep": true, "Tick": true, "NewTimer": true, "NewTicker": true,
}

// goStatements are the places outside shared/lifecycle that may start a goroutine
// by hand, each with its reason.
var goStatements = map[string]string{
	"shared/lifecycle": "the library that starts, watches and awaits goroutines",
}

// drawers are names that attract anything; a package is named by what it gives.
var drawers = map[string]bool{
	"util": true, "utils": true, "common": true, "helper": true, "helpers": true, "model": true, "models": true,
	"types": true, "manager": true, "managers": true, "misc": true, "base": true, "lib": true, "tools": true,
}

// topLevel is what the first folder of the repository may hold. Dotfiles may be
// there too, and bin and out, which builds make and git ignores.
var topLevel = map[string]string{
	"agent": "", "bin": "", "cmd": "", "coordinator": "", "deploy": "", "docs": "", "out": "", "proto": "", "shared": "",
	"go.mod": "", "go.sum": "", "Makefile": "", "README.md": "",
	"LICENSE":      "a licence is looked for here",
	"CHANGELOG.md": "what changed is looked for here",
}
