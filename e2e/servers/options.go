package servers

// An Option changes the server that Start starts.
type Option func(*options)

type options struct {
	args    []string
	user    string
	version string
}

// WithVersion starts a version of the product that is not the default of the
// tests. It is one that fetch.sh --all has unpacked, for example "10.5" of
// MariaDB.
func WithVersion(version string) Option {
	return func(o *options) { o.version = version }
}

// WithArgs adds flags to the server's command line. They override the default
// flags of this package.
func WithArgs(extra ...string) Option {
	return func(o *options) { o.args = append(o.args, extra...) }
}

// WithUser makes the server run as that user of the system, if this process
// runs as root. Otherwise it has no effect. Without WithUser, root's servers
// run as root. The user must have access to the temporary folder. Galera needs
// this option: rsync, which copies a node's data, drops root's privileges.
func WithUser(name string) Option {
	return func(o *options) { o.user = name }
}
