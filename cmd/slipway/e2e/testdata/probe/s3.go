package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// open opens the bucket of LOG_PATH with what the step's environment says.
func open(secret string) (*objectstore.S3, logpath.Path, error) {
	path, err := logpath.Parse(os.Getenv("LOG_PATH"))
	if err != nil {
		return nil, path, err
	}
	b, err := objectstore.Open(context.Background(), objectstore.Config{
		Endpoint: os.Getenv("AWS_ENDPOINT_URL_S3"), Region: os.Getenv("AWS_REGION"), Bucket: path.Bucket(), PathStyle: true,
		AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: secret,
	})
	return b, path, err
}

func put(b *objectstore.S3, key, text string) error {
	_, err := b.Put(context.Background(), key, strings.NewReader(text), int64(len(text)), objectstore.PutOptions{})
	return err
}

func get(b *objectstore.S3, key string) (string, error) {
	body, err := b.Get(context.Background(), key, 0, -1)
	if err != nil {
		return "", err
	}
	raw, err := io.ReadAll(body)
	return string(raw), errors.Join(err, body.Close())
}

// s3 does what a step may do at its place in the bucket, and what it may not.
func s3([]string) error {
	b, path, err := open(os.Getenv("AWS_SECRET_ACCESS_KEY"))
	if err != nil {
		return err
	}
	if err := put(b, path.Key("mine/note.txt"), "a note"); err != nil {
		return err
	}
	if text, err := get(b, path.Key("mine/note.txt")); err != nil || text != "a note" {
		return fmt.Errorf("read back %q, %w", text, err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB: more than one part
	if _, err := b.Put(context.Background(), path.Key("mine/big"), bytes.NewReader(big), -1, objectstore.PutOptions{}); err != nil {
		return fmt.Errorf("in parts: %w", err)
	}
	list, err := b.List(context.Background(), path.Key("mine/"), "")
	if err != nil || len(list) != 2 || list[0].Key != path.Key("mine/big") || list[0].Size != int64(len(big)) {
		return fmt.Errorf("listed %+v, %w", list, err)
	}
	if err := b.Delete(context.Background(), path.Key("mine/big")); err != nil {
		return err
	}
	fmt.Println("inside: put, get, list, delete")

	above := path.Prefix()[:strings.LastIndex(path.Prefix(), "/")]
	for what, try := range map[string]func() error{
		"put above":       func() error { return put(b, above+"/note.txt", "x") },
		"put beside":      func() error { return put(b, path.Prefix()+"0/note.txt", "x") },
		"put status.json": func() error { return put(b, path.Status(), `{"state":"succeeded"}`) },
		"put state.json":  func() error { return put(b, path.State(), `{}`) },
		"get above":       func() error { _, err := get(b, above+"/note.txt"); return err },
		"list above":      func() error { _, err := b.List(context.Background(), above+"/", ""); return err },
		"list all":        func() error { _, err := b.List(context.Background(), "", ""); return err },
		"delete status":   func() error { return b.Delete(context.Background(), path.Status()) },
		"wrong secret": func() error {
			b, _, err := open("wrong" + os.Getenv("AWS_SECRET_ACCESS_KEY"))
			if err != nil {
				return fmt.Errorf("not even opened: %w", err)
			}
			return put(b, path.Key("mine/wrong.txt"), "x")
		},
	} {
		err := try()
		verdict := "refused"
		if ci.KindOf(err) != ci.Forbidden {
			verdict = fmt.Sprintf("NOT REFUSED (%v)", err)
		}
		fmt.Printf("%s: %s\n", what, verdict)
	}
	return nil
}

// habit is the original way of an image that knows nothing of slipway: it
// uploads its log, writes its word, and sleeps for ever.
func habit(args []string) error {
	word := "SUCCESS"
	if len(args) > 0 {
		word = args[0]
	}
	fmt.Println("building as I always did")
	b, path, err := open(os.Getenv("AWS_SECRET_ACCESS_KEY"))
	if err != nil {
		return err
	}
	if err := put(b, path.Key("build.log"), "all that I have to say\n"); err != nil {
		return err
	}
	fmt.Printf("reporting at %d\n", time.Now().UnixNano())
	if err := put(b, path.Complete(), word); err != nil {
		return err
	}
	if len(args) > 1 && args[1] == "exit" {
		return nil
	}
	return forever()
}
