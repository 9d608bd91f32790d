// Package wrappers tests the library behind the wrappers around database
// drivers that Go services use.
package wrappers

import (
	"database/sql/driver"
	"reflect"
)

// fieldOf returns a function for namedlock.WithUnwrap. It reads the connection
// beneath the wrappers of the package pkg, which is in the field of that name.
func fieldOf(pkg, name string) func(driver.Conn) driver.Conn {
	return func(conn driver.Conn) driver.Conn {
		v := reflect.Indirect(reflect.ValueOf(conn))
		if v.Kind() != reflect.Struct || v.Type().PkgPath() != pkg {
			return nil
		}
		wrapper := reflect.New(v.Type()).Elem() // a copy, which has an address
		wrapper.Set(v)
		field := wrapper.FieldByName(name)
		if !field.IsValid() {
			return nil
		}
		at := reflect.NewAt(field.Type(), field.Addr().UnsafePointer())
		beneath, _ := at.Elem().Interface().(driver.Conn)
		return beneath
	}
}
