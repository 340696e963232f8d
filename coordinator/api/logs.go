package api

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

const (
	defaultRecords = 1000
	maxRecords     = 10_000
	maxTail        = 1_000_000
)

// ReadLog returns records of an attempt's log.
func (a *API) ReadLog(ctx context.Context, req *pb.ReadLogRequest) (*pb.ReadLogResponse, error) {
	limit, err := bounded(req.GetLimit(), defaultRecords, maxRecords)
	if err != nil {
		return nil, err
	}
	from, err := number(req.GetCursor(), "cursor")
	if err != nil {
		return nil, err
	}
	if req.GetTail() < 0 || req.GetTail() > maxTail {
		return nil, ci.FieldErrorf(ci.Invalid, "tail", "the tail %d is not between 1 and %d", req.GetTail(), maxTail)
	}
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	if _, err := findStep(r, req.GetStep()); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(seconds(req.GetWaitSeconds()))
	at, err := a.begun(ctx, r, req.GetStep(), int(req.GetAttempt()), time.Until(deadline))
	if err != nil {
		return nil, err
	}
	res := &pb.ReadLogResponse{Cursor: strconv.FormatUint(from, 10)}
	if at != nil {
		res.Attempt = int32(at.Number)
	}
	if at == nil || at.Fence == 0 {
		// Nothing was ever written, and nothing will be if it is over.
		s := a.cfg.Store.View().Run(r.ID).Step(req.GetStep())
		res.End = at == nil && s.State.Terminal() || at != nil && !at.Live()
		return res, nil
	}
	q := LogQuery{
		Path: a.path(r, req.GetStep(), at), Attempt: at.ID,
		Over: func() bool { return a.over(r.ID, req.GetStep(), at.ID) },
		From: int64(from), Limit: limit, Wait: max(0, time.Until(deadline)),
	}
	if req.GetCursor() == "" {
		q.Tail = int(req.GetTail())
	}
	reading, done := a.changes.whileOpen(ctx)
	defer done()
	page, err := a.cfg.Logs.Read(reading, q)
	if err != nil && ctx.Err() == nil && reading.Err() != nil {
		return res, nil // the server stops: the caller asks the next one
	}
	if err != nil {
		return nil, err
	}
	res.Records, res.Cursor, res.End = logRecords(page.Records), strconv.FormatInt(page.Next, 10), page.End
	return res, nil
}

// begun returns the attempt to read, waiting for it to be assigned: before that
// it has no place for a log. It is nil when there is none.
func (a *API) begun(ctx context.Context, r *ci.Run, step string, number int, wait time.Duration) (*ci.Attempt, error) {
	var at *ci.Attempt
	var err error
	_, werr := a.until(ctx, r.ID, wait, func(r *ci.Run) bool {
		s := r.Step(step)
		at, err = findAttempt(r, s, number)
		return err != nil || s.State.Terminal() || at != nil && (at.Fence != 0 || !at.Live())
	})
	if werr != nil {
		return nil, werr
	}
	if wait <= 0 { // the condition was not asked
		r = a.cfg.Store.View().Run(r.ID)
		at, err = findAttempt(r, r.Step(step), number)
	}
	return at, err
}

func (a *API) over(run ci.RunID, step string, id ci.AttemptID) bool {
	r := a.cfg.Store.View().Run(run)
	if r == nil || r.Step(step) == nil {
		return true
	}
	at := r.Step(step).Attempt(id)
	return at == nil || !at.Live()
}

func logRecords(in []logpath.Record) []*pb.LogRecord {
	out := make([]*pb.LogRecord, 0, len(in))
	for _, r := range in {
		out = append(out, &pb.LogRecord{
			At: timestamppb.New(r.Time), Stream: r.Stream.String(), Data: r.Data, Partial: r.Partial,
		})
	}
	return out
}
