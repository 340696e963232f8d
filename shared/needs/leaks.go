package needs

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// leakPatience is how long what has been told to end may take to end: a starved
// machine runs some goroutines only after seconds, an HTTP server lingers half a
// second on a connection that it refused.
const leakPatience = 15 * time.Second

// NoLeaks is for a package's TestMain: it runs the tests and fails the package
// when goroutines outlive them, as goleak.VerifyTestMain does with less patience.
// It does not return.
func NoLeaks(m interface{ Run() int }, known ...goleak.Option) {
	code := m.Run()
	for end := time.Now().Add(leakPatience); code == 0; {
		err := goleak.Find(known...) // which itself waits a second
		if err == nil {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "FAIL: goroutines outlive the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}
