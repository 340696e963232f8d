package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var outputs = []string{"table", "json", "yaml", "jsonl", "name"}

func (c *cli) checkOutput() error {
	if !slices.Contains(outputs, c.output) {
		return usagef("cannot print as %q: -o takes %s", c.output, strings.Join(outputs, ", "))
	}
	return nil
}

// toJSON renders a message with the field names of the proto files, every
// field present, on one line.
func toJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot print the answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil { // protojson varies its blanks on purpose
		return nil, fmt.Errorf("cannot print the answer: %w", err)
	}
	return out.Bytes(), nil
}

// print shows one object: human prints the table form.
func (c *cli) print(m proto.Message, name string, human func() error) error {
	switch c.output {
	case "table":
		return human()
	case "name":
		_, err := fmt.Fprintln(c.out, name)
		return err
	}
	raw, err := toJSON(m)
	if err != nil {
		return err
	}
	return c.printRaw(raw)
}

// printRaw prints JSON in the asked structured format.
func (c *cli) printRaw(raw []byte) error {
	switch c.output {
	case "jsonl":
		_, err := fmt.Fprintf(c.out, "%s\n", raw)
		return err
	case "yaml":
		var node yaml.Node // JSON is YAML: the order of the keys stays
		if err := yaml.Unmarshal(raw, &node); err != nil {
			return fmt.Errorf("cannot print as YAML: %w", err)
		}
		blockStyle(&node)
		text, err := yaml.Marshal(&node)
		if err != nil {
			return fmt.Errorf("cannot print as YAML: %w", err)
		}
		_, err = c.out.Write(text)
		return err
	default:
		var out bytes.Buffer
		if err := json.Indent(&out, raw, "", "  "); err != nil {
			return fmt.Errorf("cannot print as JSON: %w", err)
		}
		out.WriteByte('\n')
		_, err := c.out.Write(out.Bytes())
		return err
	}
}

func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// printList shows a list: jsonl and name print a line an item, the others the
// whole message.
func printList[T proto.Message](c *cli, whole proto.Message, items []T, name func(T) string, human func() error) error {
	switch c.output {
	case "jsonl":
		for _, item := range items {
			raw, err := toJSON(item)
			if err != nil {
				return err
			}
			if err := c.printRaw(raw); err != nil {
				return err
			}
		}
		return nil
	case "name":
		for _, item := range items {
			if _, err := fmt.Fprintln(c.out, name(item)); err != nil {
				return err
			}
		}
		return nil
	}
	return c.print(whole, "", human)
}

// writeTable prints rows in columns; cells may be coloured already.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = oneLine(row[i])
		}
	}
	t := table.New().
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderColumn(false).BorderHeader(false).Wrap(false).
		StyleFunc(func(_, _ int) lipgloss.Style { return lipgloss.NewStyle().PaddingRight(2) }).
		Headers(header...).Rows(rows...)
	for line := range strings.SplitSeq(t.String(), "\n") {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// ago says how long ago t was, in one unit.
func ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	return short(now.Sub(t.AsTime())) + " ago"
}

// span says how long something took, or has taken by now.
func span(from, to *timestamppb.Timestamp, now time.Time) string {
	if from == nil {
		return "-"
	}
	if to != nil {
		now = to.AsTime()
	}
	return short(now.Sub(from.AsTime()))
}

func short(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// size renders bytes in binary units.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			if unit == "B" || n >= 100 {
				return fmt.Sprintf("%.0f %s", n, unit)
			}
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1f TiB", n)
}
