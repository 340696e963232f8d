package s3gate

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// refusal is an error as S3 clients expect it.
type refusal struct {
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) *refusal {
	return refuse(http.StatusForbidden, "AccessDenied", format, args...)
}

func invalid(format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, "InvalidArgument", format, args...)
}

// asRefusal finds the refusal in err's chain; anything else is the store's
// failure, which clients retry.
func asRefusal(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "The store does not answer now. Please try again.")
}

type errorBody struct {
	XMLName  xml.Name `xml:"Error"`
	Code     string
	Message  string
	Resource string
}

// write answers a request with the refusal.
func (r *refusal) write(w http.ResponseWriter, req *http.Request) {
	body, err := xml.Marshal(errorBody{Code: r.code, Message: r.message, Resource: req.URL.EscapedPath()})
	if err != nil {
		panic("an error of two strings is always XML: " + err.Error())
	}
	writeXML(w, req, r.status, body)
}

func writeXML(w http.ResponseWriter, req *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	// A client that is gone is not told.
	_, _ = w.Write(append([]byte(xml.Header), body...))
}
