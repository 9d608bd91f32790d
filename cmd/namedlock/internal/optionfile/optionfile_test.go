package optionfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, file, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// What my_print_defaults of MariaDB 11.8 makes of these lines.
func TestRead_AsTheClients(t *testing.T) {
	for line, want := range map[string]string{
		`password=plain # comment`:     `plain`,
		`password=with#hash`:           `with`,
		`password="quo#ted" # comment`: `quo#ted`,
		`password='sin"gle'`:           `sin"gle`,
		`password=back\\slash\sspace`:  `back\slash space`,
		`password=es\#caped`:           `es\`,
		`password="in\"ner"`:           `in"ner`,
		`password=C:\data`:             `C:\data`,
		`password=  spaced out  `:      `spaced out`,
		`password = "x" trailing`:      `"x" trailing`,
		`password="unterminated`:       `"unterminated`,
		`password=semi;colon`:          `semi;colon`,
		`password=mid"quote#x"y`:       `mid"quote#x"y`,
		`password=a 'b#c' d`:           `a 'b#c' d`,
		`password=it's#5`:              `it's#5`,
		`password='a\'b#c'd`:           `'a'b#c'd`,
		`password=x\'y#z`:              `x'y#z`,
		`password="a\\"`:               `a\`,
		`password="`:                   `"`,
		`password='"'`:                 `"`,
		`password=\q\z`:                `\q\z`,
		`password=tr\`:                 `tr\`,
		`password = ' lead'`:           ` lead`,
		`password="tab\tx"`:            "tab\tx",
		`PassWord=a=b`:                 `a=b`,
		`password=`:                    ``,
	} {
		t.Run(line, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "my.cnf"), "\n[client] # group\n"+line+"\n")
			settings, err := Read(file, "client")
			require.NoError(t, err)
			assert.Equal(t, []Setting{{Key: "password", Value: want, Given: true, File: file, Line: 3}}, settings)
		})
	}
}

func TestRead_Groups(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "conf.d", "b.cnf"), "[client]\nport=2\n")
	write(t, filepath.Join(dir, "conf.d", "a.cnf"), "[client]\nport=1\n")
	write(t, filepath.Join(dir, "conf.d", "a.cnf~"), "[client]\nport=99\n")
	write(t, filepath.Join(dir, "more.cnf"), "[mysqld]\nport=3\n[client-mariadb]\nssl\n")
	file := write(t, filepath.Join(dir, "my.cnf"), "\ufeff# first\n[mysqld]\nport=4\nnonsense [\n[CLIENT]\n; none\nssl_ca=x\r\n!includedir conf.d\n!include more.cnf\nuser=u\n")
	settings, err := Read(file, "client", "client-mariadb")
	require.NoError(t, err)
	var got []string
	for _, s := range settings {
		got = append(got, s.Key+"="+s.Value)
	}
	assert.Equal(t, []string{"ssl-ca=x", "port=1", "port=2", "ssl=", "user=u"}, got)
	assert.False(t, settings[3].Given)
}

func TestRead_SaysWhatIsWrongAndWhere(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"user=x":                          "line 1: this line comes before the first group",
		"[client]\n\n[client":             `line 3: a group is a name in brackets, such as [client], not "[client"`,
		"[client] x":                      "line 1: a group is a name in brackets",
		"[client]\n=x":                    "line 2: missing key before =",
		"!include":                        "line 1: !include without a file name",
		"!include none.cnf":               "line 1: cannot read the option file: open " + filepath.Join(dir, "none.cnf"),
		"!includedir none":                "line 1: open " + filepath.Join(dir, "none"),
		"!including x":                    "line 1: unknown directive !including; use !include or !includedir",
		"[client]\n!include my.cnf":       "line 2: option files include each other more than 10 deep",
		"[client]\n!include open.cnf":     "open.cnf is world-writable; run chmod 600 ",
		"[client]\n!include group.cnf":    "group.cnf is group-writable; run chmod 600 ",
		"[client]\n!include conf.d":       "conf.d is a directory",
		"[client]\n!include conf.d/x.cnf": "x.cnf, line 2: missing key before =",
	} {
		t.Run(text, func(t *testing.T) {
			file := write(t, filepath.Join(dir, "my.cnf"), text)
			write(t, filepath.Join(dir, "conf.d", "x.cnf"), "[client]\n=")
			require.NoError(t, os.Chmod(write(t, filepath.Join(dir, "open.cnf"), ""), 0o666))
			require.NoError(t, os.Chmod(write(t, filepath.Join(dir, "group.cnf"), ""), 0o660))
			_, err := Read(file, "client")
			require.Error(t, err)
			assert.Contains(t, err.Error(), want)
		})
	}
	_, err := Read(filepath.Join(dir, "missing.cnf"), "client")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Where all users can read the file, its settings say so.
func TestRead_Open(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(write(t, filepath.Join(dir, "all.cnf"), "[client]\npassword=x\n"), 0o644))
	file := write(t, filepath.Join(dir, "my.cnf"), "[client]\nuser=u\n!include all.cnf\n")
	settings, err := Read(file, "client")
	require.NoError(t, err)
	require.Len(t, settings, 2)
	assert.False(t, settings[0].Open)
	assert.True(t, settings[1].Open)
}

// A file of another user is refused, unless that user is root.
func TestRead_Foreign(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	file := write(t, filepath.Join(t.TempDir(), "my.cnf"), "[client]\nuser=u\n")
	require.NoError(t, os.Chown(file, 4711, -1))
	_, err := Read(file, "client")
	assert.ErrorContains(t, err, "belongs to another user (id 4711)")
}
