package objectstore_test

import (
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m, s3devtest.Leaks()...) }
