package main

import (
	"errors"
	"fmt"

	"github.com/go-namedlock/namedlock/bench/internal/rivals"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A field has the servers of one run. A server that is not on the machine is
// nil.
type field struct {
	targets  []target
	redis    *rivals.Server
	postgres *rivals.Server
	missing  []string
}

// newField starts all servers that are on the machine. MySQL or MariaDB must be
// one of them.
func newField() (_ *field, err error) {
	f := &field{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.stop())
		}
	}()
	var none error
	for _, kind := range []servers.Kind{servers.MariaDB, servers.MySQL} {
		s, err := servers.Start(kind)
		var missing *servers.MissingError
		switch {
		case errors.As(err, &missing):
			f.missing = append(f.missing, err.Error())
			none = errors.Join(none, err)
		case err != nil:
			return f, err
		default:
			f.targets = append(f.targets, target{s})
		}
	}
	if len(f.targets) == 0 {
		return f, fmt.Errorf("no server to measure: %w", none)
	}
	if f.redis, err = f.rival(rivals.Redis()); err != nil {
		return f, err
	}
	f.postgres, err = f.rival(rivals.Postgres())
	return f, err
}

func (f *field) rival(s *rivals.Server, err error) (*rivals.Server, error) {
	if errors.Is(err, rivals.ErrMissing) {
		f.missing = append(f.missing, err.Error())
		return nil, nil
	}
	return s, err
}

func (f *field) versions() []string {
	var versions []string
	for _, t := range f.targets {
		versions = append(versions, t.Version())
	}
	for _, s := range []*rivals.Server{f.redis, f.postgres} {
		if s != nil {
			versions = append(versions, s.Version)
		}
	}
	return versions
}

func (f *field) stop() error {
	var err error
	for _, t := range f.targets {
		err = errors.Join(err, t.Stop())
	}
	for _, s := range []*rivals.Server{f.redis, f.postgres} {
		if s != nil {
			err = errors.Join(err, s.Stop())
		}
	}
	return err
}
