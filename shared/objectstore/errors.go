package objectstore

import (
	"context"
	"errors"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/slipway-ci/slipway/shared/ci"
)

// fail turns a library error into one for people; nil stays nil.
func (s *S3) fail(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	var done *ci.Error
	if errors.As(err, &done) {
		return err
	}
	kind := kindOf(err)
	hint := ""
	switch {
	case kind == ci.Unavailable:
		hint = " (is the store at " + s.base.String() + " up and reachable?)"
	case noBucket(err):
		hint = " (create the bucket or correct its name)"
	case kind == ci.Forbidden:
		hint = " (check the access key, its policy and this machine's clock)"
	}
	return ci.Errorf(kind, "cannot %s %s%s: %w", verb, s.at(key), hint, err)
}

func noBucket(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NoSuchBucket"
}

// statusOf is the HTTP status behind an error, 0 without one.
func statusOf(err error) int {
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		return resp.HTTPStatusCode()
	}
	return 0
}

func kindOf(err error) ci.Kind {
	if errors.Is(err, context.Canceled) {
		return ci.Canceled
	}
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	status := statusOf(err)
	if status == 0 && code == "" {
		// No answer at all: refused, reset, timed out, name not found.
		return ci.Unavailable
	}
	return kindOfCode(code, status)
}

// kindOfCode sorts S3's codes; the status decides where HEAD gives no code.
func kindOfCode(code string, status int) ci.Kind {
	switch code {
	case "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound":
		return ci.NotFound
	case "PreconditionFailed", "ConditionalRequestConflict", "OperationAborted":
		return ci.Conflict
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken", "Forbidden":
		return ci.Forbidden
	case "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "TooManyRequests":
		return ci.Unavailable
	}
	switch {
	case status == 404:
		return ci.NotFound
	case status == 409, status == 412:
		return ci.Conflict
	case status == 401, status == 403:
		return ci.Forbidden
	case status == 408, status == 429, status >= 500:
		return ci.Unavailable
	case status >= 400:
		return ci.Invalid
	}
	return ci.Unavailable
}
