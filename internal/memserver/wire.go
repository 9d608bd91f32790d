package memserver

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// As much of the client/server protocol as the driver needs for statements with
// one row as answer.

const (
	comQuit           = 1
	comQuery          = 3
	comPing           = 0x0e
	comPrepare        = 0x16
	comExecute        = 0x17
	comCloseStatement = 0x19

	erParse             = 1064
	erUnknownVariable   = 1193
	erDeadlock          = 1213 // rolls the transaction back, but that of GET_LOCK does not
	erNoSuchSavepoint   = 1305
	erTooManyStatements = 1461
	erQueryTimeout      = 3024

	capabilities = 1 | 1<<3 | 1<<9 | 1<<13 | 1<<15 | 1<<19 // long password, with db, 4.1, transactions, secure auth, plugin auth

	inTransaction = 1 // of the status flags
	autocommit    = 2

	longLong  = 0x08
	varString = 0xfd
)

// A wire is one connection. Each command starts the numbers of packets over.
type wire struct {
	conn   net.Conn
	seq    byte
	status byte // the flags that go with every answer but an error
	binary bool // rows are answers to a prepared statement
	wide   bool // character_set_results has two bytes for each character
}

func (w *wire) read() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(w.conn, header[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	w.seq = header[3] + 1
	_, err := io.ReadFull(w.conn, packet)
	return packet, err
}

// frame appends a packet to b.
func (w *wire) frame(b []byte, packet []byte) []byte {
	b = append(b, byte(len(packet)), byte(len(packet)>>8), byte(len(packet)>>16), w.seq)
	w.seq++
	return append(b, packet...)
}

func (w *wire) write(packets ...[]byte) error {
	var b []byte
	for _, p := range packets {
		b = w.frame(b, p)
	}
	_, err := w.conn.Write(b)
	return err
}

// greet accepts every user.
func (w *wire) greet(id int, version string) error {
	p := append([]byte{10}, version...)
	p = append(p, 0)
	p = binary.LittleEndian.AppendUint32(p, uint32(id))
	p = append(p, "12345678\x00"...)
	p = binary.LittleEndian.AppendUint16(p, capabilities&0xffff)
	p = append(p, 45, autocommit, 0)
	p = binary.LittleEndian.AppendUint16(p, capabilities>>16)
	p = append(p, 21)
	p = append(p, make([]byte, 10)...)
	p = append(p, "123456789012\x00mysql_native_password\x00"...)
	if err := w.write(p); err != nil {
		return err
	}
	if _, err := w.read(); err != nil {
		return err
	}
	w.status = autocommit
	return w.ok(0)
}

func (w *wire) ok(affected byte) error { return w.write([]byte{0, affected, 0, w.status, 0, 0, 0}) }

func (w *wire) fail(number uint16) error {
	p := binary.LittleEndian.AppendUint16([]byte{0xff}, number)
	return w.write(append(p, "#HY000in memory"...))
}

// row answers by one row; by an OK if there are no values.
func (w *wire) row(values []any, affected byte) error {
	if len(values) == 0 {
		return w.ok(affected)
	}
	eof := []byte{0xfe, 0, 0, w.status, 0}
	packets := [][]byte{{byte(len(values))}}
	var row []byte
	if w.binary {
		row = make([]byte, 1+(len(values)+7+2)/8) // a zero, and which values are NULL
	}
	for i, v := range values {
		kind := byte(varString)
		if _, number := v.(int); number && !w.binary {
			kind = longLong
		}
		packets = append(packets, column(i, kind))
		switch {
		case v != nil:
			row = text(row, w.encoded(v))
		case w.binary:
			row[1+(i+2)/8] |= 1 << ((i + 2) % 8)
		default:
			row = append(row, 0xfb)
		}
	}
	return w.write(append(packets, eof, row, eof)...)
}

// encoded returns a value in the character set for results. As on MariaDB, this
// includes numbers in answers to text, but not bytes.
func (w *wire) encoded(value any) string {
	_, number := value.(int)
	bytes, isBytes := value.([]byte)
	switch {
	case isBytes:
		return string(bytes)
	case !w.wide, number && w.binary:
		return fmt.Sprint(value)
	}
	var wide []byte
	for _, b := range []byte(fmt.Sprint(value)) {
		wide = append(wide, 0, b)
	}
	return string(wide)
}

// column describes a column, or a parameter.
func column(i int, kind byte) []byte {
	c := text(text(text(text(nil, "def"), ""), ""), "")
	c = text(text(c, fmt.Sprint("column", i)), "")
	return append(c, 12, 45, 0, 0, 1, 0, 0, kind, 0, 0, 0, 0, 0)
}

// text appends a short string with its length.
func text(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }
