// Program probe is what the tests' steps run where a shell does not do: a
// static program that looks at its own step from the inside.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Each command gets the words behind it; an error ends the program with 1.
var commands = map[string]func(args []string) error{
	"api":   stepAPI,
	"s3":    s3,
	"habit": habit,
	"flood": flood,
	"deaf":  deaf,
	"daemon": func([]string) error {
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		return forever()
	},
	"eat":  eat,
	"fork": fork,
	"burn": burn,
	"args": func(args []string) error {
		for i, a := range args {
			fmt.Printf("%d <%s>\n", i, a)
		}
		return nil
	},
}

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"args"}
	}
	run, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "probe: no command %q\n", args[0])
		os.Exit(2)
	}
	if err := run(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", args[0], err)
		os.Exit(1)
	}
}

func forever() error {
	select {
	case <-time.After(time.Hour):
	}
	return errors.New("nobody ended me for an hour")
}

// stepAPI prints what GET /v1/step says, and proves that a wrong token is
// refused.
func stepAPI([]string) error {
	socket := strings.TrimPrefix(os.Getenv("SLIPWAY_URL"), "unix://")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for _, token := range []string{"wrong", os.Getenv("SLIPWAY_TOKEN")} {
		req, err := http.NewRequest(http.MethodGet, "http://step/v1/step", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return err
		}
		if token == "wrong" {
			fmt.Printf("wrong token: %d\n", res.StatusCode)
			continue
		}
		fmt.Printf("status %d\n%s\n", res.StatusCode, body)
	}
	return nil
}

// flood writes N numbered lines as fast as it can and says at the report
// folder what their bytes hash to.
func flood(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	both := io.MultiWriter(out, sum)
	for i := range n {
		if _, err := fmt.Fprintf(both, "line %06d %s\n", i, strings.Repeat("x", i%97)); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return output("sha256", hex.EncodeToString(sum.Sum(nil)))
}

func output(key, value string) error {
	f, err := os.OpenFile(filepath.Join(os.Getenv("SLIPWAY_REPORT_DIR"), "outputs"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s=%s\n", key, value)
	return errors.Join(err, f.Close())
}

// deaf hears no signal and forks daemons in sessions of their own: the last of
// them with an empty environment.
func deaf(args []string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	for i := range 3 {
		cmd := exec.Command(os.Args[0], append([]string{"daemon"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if i == 2 {
			cmd.Env, cmd.Dir = []string{}, "/"
		}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	fmt.Println("deaf and not alone")
	return forever()
}

// eat holds that many MiB of memory, then waits.
func eat(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var held [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
	}
	fmt.Printf("ate %d MiB\n", len(held))
	return nil
}

// fork starts that many children at once and says how many there were.
func fork(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var failed error
	var children []*exec.Cmd
	for range n {
		cmd := exec.Command(os.Args[0], "daemon")
		if failed = cmd.Start(); failed != nil {
			break
		}
		children = append(children, cmd)
	}
	fmt.Printf("forked %d: %v\n", len(children), failed)
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	return nil
}

// burn keeps the processor busy for that many seconds and says how much of it
// it got, in percent of one core.
func burn(args []string) error {
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	start := time.Now()
	for n := 0; time.Since(start) < time.Duration(seconds)*time.Second; n++ {
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return err
	}
	used := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	fmt.Printf("cpu %d percent\n", 100*used/time.Since(start))
	return nil
}
