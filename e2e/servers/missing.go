package servers

import (
	"fmt"
	"strings"
)

// A MissingError says that a server's programs are not on this machine.
type MissingError struct {
	Kind   Kind
	Looked []string // the places where it was looked for
	Why    string   // it was not looked for; "": it was
}

func (e *MissingError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("%s: %s", e.Kind, e.Why)
	}
	return fmt.Sprintf("%s is not on this machine (looked for: %s); on a Debian-like machine run as root: e2e/servers/fetch.sh --all",
		e.Kind, strings.Join(e.Looked, ", "))
}
