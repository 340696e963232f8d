package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/stepinit"
)

// unstartable tells a container whose command the engine could not execute.
func unstartable(c container.InspectResponse) bool {
	return c.State != nil && c.State.Status == container.StateCreated && c.State.Error != "" &&
		(c.State.ExitCode == 126 || c.State.ExitCode == 127)
}

// unstarted asks the log whether it was our init that ended with 126 or 127,
// because it could not execute the command.
func (r *Runtime) unstarted(ctx context.Context, e runtime.Exit, c container.InspectResponse) (runtime.Exit, error) {
	last, err := r.lastWords(ctx, c.ID)
	if err != nil && (away(ctx, err) || ctx.Err() != nil) {
		return e, err
	}
	// Without a log that can be read, the code has to do.
	if why, ok := strings.CutPrefix(last, stepinit.Unstarted); ok && len(c.Args) >= len(initArgv) {
		what := c.Args[len(initArgv)-1]
		e.Message = unstartableText(c, what, strings.TrimPrefix(why, strconv.Quote(what)+": "))
	}
	return e, nil
}

// lastWords is the last line on the standard error of a container that ended.
func (r *Runtime) lastWords(ctx context.Context, id string) (string, error) {
	body, err := r.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStderr: true, Timestamps: true, Tail: "1"})
	if err != nil {
		return "", err
	}
	rec, _, err := readFrame(body, nil)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(rec.Data), errors.Join(err, body.Close())
}

func unstartableText(c container.InspectResponse, what, why string) string {
	if i := strings.LastIndex(why, "exec: "); i >= 0 {
		why = why[i:]
	}
	why = strings.TrimSuffix(why, ": unknown")
	text := fmt.Sprintf("cannot start %s in image %s: %s", strconv.Quote(what), c.Config.Labels[labelImage], why)
	if len(c.Args) > 0 && c.Args[len(c.Args)-1] == scriptTarget {
		text += "; give `shell` an interpreter that the image has, or use `command`"
	}
	return text
}
