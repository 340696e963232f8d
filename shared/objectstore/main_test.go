package objectstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, s3devtest.Leaks()...) }
