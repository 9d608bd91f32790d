package memserver

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Prepared statements: the arguments are put into the text when it is run.

// The types of arguments that the driver sends.
const (
	typeDouble   = 0x05
	typeLongLong = 0x08
)

// prepare remembers the text, and answers how many arguments it takes.
func (c *session) prepare(w *wire, text string) error {
	c.prepared = append(c.prepared, text)
	n := strings.Count(text, "?")
	ok := binary.LittleEndian.AppendUint32([]byte{0}, uint32(len(c.prepared)))
	packets := [][]byte{append(ok, 0, 0, byte(n), 0, 0, 0, 0)}
	for i := range n {
		packets = append(packets, column(i, varString))
	}
	if n > 0 {
		packets = append(packets, []byte{0xfe, 0, 0, w.status, 0})
	}
	return w.write(packets...)
}

// bound returns the text of the prepared statement that the packet executes,
// with its arguments put in. The driver sends their types each time.
func (c *session) bound(packet []byte) string {
	text := c.prepared[binary.LittleEndian.Uint32(packet[1:])-1]
	n := strings.Count(text, "?")
	if n == 0 {
		return text
	}
	types := packet[10+(n+7)/8+1:]
	values := types[2*n:]
	for i := range n {
		var literal string
		switch types[2*i] {
		case typeLongLong:
			literal = fmt.Sprint(int64(binary.LittleEndian.Uint64(values)))
			values = values[8:]
		case typeDouble:
			literal = fmt.Sprint(math.Float64frombits(binary.LittleEndian.Uint64(values)))
			values = values[8:]
		default: // a string of at most 250 bytes
			length := int(values[0])
			literal = "'" + string(values[1:1+length]) + "'"
			values = values[1+length:]
		}
		text = strings.Replace(text, "?", literal, 1)
	}
	return text
}
