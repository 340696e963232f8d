package s3gate

import (
	"encoding/xml"
	"io"
	"net/http"
)

// maxList holds 10,000 parts of some 200 bytes, or 1,000 keys.
const maxList = 4 << 20

type completeUpload struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []part   `xml:"Part"`
}

type part struct {
	PartNumber int
	ETag       string
}

type deleteObjects struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []objectID `xml:"Object"`
}

type objectID struct {
	Key       string
	VersionID string `xml:"VersionId,omitempty"`
}

// rewriteList reads the XML of a call that has a list for a body, checks it,
// and writes it anew from what was understood of it.
func rewriteList(data *body, length int64, c *call, g *grant) ([]byte, error) {
	if length > maxList {
		return nil, refuse(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big.")
	}
	raw, err := io.ReadAll(data)
	if err != nil {
		return nil, err
	}
	if c.name == "DeleteObjects" {
		return rewriteDelete(raw, g)
	}
	// The parts' checksums are left out: they were verified here, and the
	// store does not have them.
	var list completeUpload
	if err := xml.Unmarshal(raw, &list); err != nil {
		return nil, malformedXML()
	}
	return xml.Marshal(list)
}

// rewriteDelete refuses the whole list for one key that is out of reach.
func rewriteDelete(raw []byte, g *grant) ([]byte, error) {
	var list deleteObjects
	if err := xml.Unmarshal(raw, &list); err != nil || len(list.Objects) > 1000 {
		return nil, malformedXML()
	}
	for _, o := range list.Objects {
		if err := checkKey(o.Key); err != nil {
			return nil, err
		}
		if !g.holds(o.Key) || o.VersionID != "" {
			return nil, denied("This access key deletes only objects below %s/, not their versions.", g.Prefix)
		}
		if err := g.checkFleetObject(o.Key); err != nil {
			return nil, err
		}
	}
	return xml.Marshal(list)
}

func malformedXML() error {
	return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.")
}
