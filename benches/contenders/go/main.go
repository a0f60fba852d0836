// Goroutines behind the models of Switchmark, with the standard library alone.
//
// This file speaks the worker protocol (`switchmark schema worker` prints it); models.go and echo.go do the work. One process
// serves one cell and works only between a `slice` and its reply.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

const protocol = "switchmark.worker/1"

// As the manifest has them.
var models = []string{"yield-ring", "ping-pong", "spawn-join", "spawn-batch", "tree", "pump", "parked", "echo"}

// A request: its verb, and its words by key.
type request struct {
	verb  string
	words map[string]string
}

// What a slice came to. Counts that the worker does not have are nil.
type sample struct {
	elapsed, units, peak, check uint64

	switches, base, parked, stack *uint64
}

// A cell that is ready: answers one slice.
type slices func(iterations uint64) sample

func main() {
	if err := serve(bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers until the parent says finish or goes away.
func serve(in *bufio.Reader, out *bufio.Writer) error {
	reply := func(format string, values ...any) error {
		fmt.Fprintf(out, format+"\n", values...)
		return out.Flush()
	}
	var cell slices
	var serving *server
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil // The parent has gone.
		}
		asked, err := parse(line)
		if err != nil {
			return err
		}
		switch {
		case asked.verb == "hello":
			if asked.words["protocol"] != protocol {
				return fmt.Errorf("this worker speaks %s, not %s", protocol, asked.words["protocol"])
			}
			err = reply("hello contender=go version=%s models=%s", encoded(runtime.Version()), strings.Join(models, ","))
		case asked.verb == "prepare":
			var reason error
			if asked.words["model"] == "echo" {
				serving, reason = listen(asked.words)
			} else {
				cell, reason = open(asked.words)
			}
			switch {
			case reason != nil:
				err = reply("unsupported reason=%s", encoded(reason.Error()))
			case serving != nil:
				err = reply("ready address=%s", serving.address)
			default:
				err = reply("ready")
			}
		case asked.verb == "slice" && cell != nil:
			var iterations uint64
			if iterations, err = number(asked.words, "iterations"); err != nil {
				return err
			}
			err = reply("%s", written(iterations, cell(iterations)))
		case asked.verb == "finish" && serving != nil:
			return reply("done %s", serving.served())
		case asked.verb == "finish":
			return reply("done")
		default:
			return fmt.Errorf("out of turn: %s", strings.TrimSpace(line))
		}
		if err != nil {
			return err
		}
	}
}

// written is a sample as a line of the protocol.
func written(iterations uint64, s sample) string {
	line := fmt.Sprintf("sample iterations=%d elapsed_ns=%d units=%d peak_live=%d", iterations, s.elapsed, s.units, s.peak)
	optional := []struct {
		key   string
		value *uint64
	}{{"switches", s.switches}, {"base_ns", s.base}, {"parked", s.parked}, {"user_stack_bytes", s.stack}}
	for _, o := range optional {
		if o.value != nil {
			line += fmt.Sprintf(" %s=%d", o.key, *o.value)
		}
	}
	return line + fmt.Sprintf(" check=%d", s.check)
}

func parse(line string) (request, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return request{}, fmt.Errorf("an empty line")
	}
	asked := request{verb: words[0], words: map[string]string{}}
	for _, word := range words[1:] {
		key, value, found := strings.Cut(word, "=")
		if !found {
			return request{}, fmt.Errorf("`%s` is not key=value", word)
		}
		asked.words[key] = value
	}
	return asked, nil
}

func number(words map[string]string, key string) (uint64, error) {
	value, err := strconv.ParseUint(words[key], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parameter %s is `%s`, not a number", key, words[key])
	}
	return value, nil
}

// encoded leaves no white space, percent or equals sign in a value. What the parent sends needs no decoding: ids,
// numbers and plain words.
func encoded(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		if b <= ' ' || b == '%' || b == '=' || b == 0x7f {
			fmt.Fprintf(&out, "%%%02X", b)
		} else {
			out.WriteByte(b)
		}
	}
	return out.String()
}
