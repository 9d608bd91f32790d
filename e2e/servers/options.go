package servers

// An Option changes what Start starts.
type Option func(*options)

type options struct {
	args    []string
	user    string
	version string
}

// WithVersion starts another version of the product than the one that tests
// have by default: one that fetch.sh --all has unpacked, such as "10.5" of
// MariaDB.
func WithVersion(version string) Option {
	return func(o *options) { o.version = version }
}

// WithArgs gives the server program flags beyond the harness's own, which they
// override.
func WithArgs(extra ...string) Option {
	return func(o *options) { o.args = append(o.args, extra...) }
}

// WithUser has the server run as that user of the system where this process
// runs as root, which has servers run as root otherwise; for any other user it
// changes nothing. The temporary folder must be within the user's reach. Galera
// needs it: rsync, which copies a node's data, gives up root's rights.
func WithUser(name string) Option {
	return func(o *options) { o.user = name }
}
