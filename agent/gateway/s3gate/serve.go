package s3gate

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// A refused upload is read up to here, so that clients which look for an
	// answer only after the last byte see it instead of a broken connection.
	drainLimit = 16 << 20
	drainTime  = 10 * time.Second
	smallBody  = 32 << 10
	// An answer to a write is a few hundred bytes; more is not looked at.
	maxAnswer = 64 << 10
)

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.serve(w, r); err != nil {
		answer := asRefusal(err)
		g.cfg.Log.Debug("refused a step's S3 request", "method", r.Method, "path", r.URL.Path, "code", answer.code, "reason", err)
		if r.Header.Get("Expect") == "" {
			// Best effort, as said above: a client may be gone, or stand still.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime))
			_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
		}
		answer.write(w, r)
	}
}

// serve answers a request, or returns why not before anything is written.
func (g *Gate) serve(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("The query cannot be parsed.")
	}
	by, err := g.authenticate(r, query)
	if err != nil {
		return err
	}
	c, err := route(r, query, by.grant)
	if err != nil {
		return err
	}
	switch c.name {
	case "HeadBucket":
		w.Header().Set("X-Amz-Bucket-Region", g.cfg.Region)
		w.WriteHeader(http.StatusOK)
		return nil
	case "GetBucketLocation":
		g.writeLocation(w, r)
		return nil
	case "GetObjectAcl":
		// s3cmd asks before it copies, and goes on only after this answer.
		return refuse(http.StatusNotImplemented, "NotImplemented", "Objects have no access control lists here.")
	}
	return g.forward(w, r, by, c)
}

func (g *Gate) writeLocation(w http.ResponseWriter, r *http.Request) {
	region := g.cfg.Region
	if region == "us-east-1" {
		region = "" // S3 has no name for its first region here
	}
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(region)) // a Buffer takes everything
	writeXML(w, r, http.StatusOK, []byte(`<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+text.String()+`</LocationConstraint>`))
}

// forward sends an allowed request to the store and its answer back.
func (g *Gate) forward(w http.ResponseWriter, r *http.Request, by *caller, c *call) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(by.over, cancel)()
	req, data, err := newRequest(ctx, r, by, c)
	if err != nil {
		return err
	}
	resp, err := g.cfg.Upstream.Do(ctx, req)
	if broken := data.failure(); broken != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return broken
	}
	if by.over.Err() != nil {
		if err == nil {
			_ = resp.Body.Close()
		}
		return denied("The attempt is over.")
	}
	if err != nil {
		if !errors.Is(r.Context().Err(), context.Canceled) {
			g.cfg.Log.Warn("cannot pass on a step's S3 request", "attempt", by.AttemptID, "operation", c.name, "key", c.key, "error", err)
		}
		return err
	}
	defer resp.Body.Close()
	g.answer(w, resp, by, c)
	return nil
}

// answer copies the store's response, and tells of an object that was written.
func (g *Gate) answer(w http.ResponseWriter, resp *http.Response, by *caller, c *call) {
	returnHeaders(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	wrote := resp.StatusCode == http.StatusOK && (c.name == "PutObject" || c.name == "CompleteMultipartUpload")
	if !wrote {
		if _, err := io.Copy(w, resp.Body); err != nil {
			// Too late for a status: a cut connection is the only honest end.
			panic(http.ErrAbortHandler)
		}
		return
	}
	var text bytes.Buffer
	_, err := io.Copy(w, io.TeeReader(resp.Body, &limited{&text, maxAnswer}))
	// Completing and copying begin with 200 and may fail in the body.
	if bytes.Contains(text.Bytes(), []byte("<Error>")) {
		return
	}
	if err == nil {
		_ = http.NewResponseController(w).Flush()
	}
	g.cfg.OnPut(by.AttemptID, by.name(c.key))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// limited keeps the first bytes written to it.
type limited struct {
	to   *bytes.Buffer
	room int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room)
	l.room -= n
	l.to.Write(p[:n])
	return len(p), nil
}

// newRequest spells a call anew, so that nothing of the client's own spelling
// reaches the store.
func newRequest(ctx context.Context, r *http.Request, by *caller, c *call) (*http.Request, *body, error) {
	header, err := forwardHeaders(r, c, by.grant)
	if err != nil {
		return nil, nil, err
	}
	data, length, err := newBody(r, by)
	if err != nil {
		return nil, nil, err
	}
	req := &http.Request{
		Method: r.Method, Header: header, ContentLength: length, Body: http.NoBody,
		URL: &url.URL{
			Scheme: "http", Host: "store", Path: "/" + c.bucket + "/" + c.key,
			RawPath: "/" + escape(c.bucket+"/"+c.key, true), RawQuery: canonicalQuery(c.query),
		},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	switch {
	case c.name == "CompleteMultipartUpload", c.name == "DeleteObjects":
		list, err := rewriteList(data, length, c, by.grant)
		if err != nil {
			return nil, nil, err
		}
		sum := md5.Sum(list)
		header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(list)), int64(len(list))
	case length > 0 && c.name != "PutObject" && c.name != "UploadPart":
		return nil, nil, invalid("%s takes no body.", c.name)
	case length > 0:
		if data.sha != nil {
			// The store checks it once more.
			header.Set("X-Amz-Content-Sha256", data.want)
		}
		if err := setBody(req, data, length); err != nil {
			return nil, nil, err
		}
	}
	return req.WithContext(ctx), data, nil
}

// setBody streams a body, but a small one is read first: then one that does
// not hold never reaches the store, and a connection that the store has just
// closed costs a retry instead of an error.
func setBody(req *http.Request, data *body, length int64) error {
	if length > smallBody {
		req.Body = io.NopCloser(data)
		return nil
	}
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil }
	req.Body, err = req.GetBody()
	return err
}
