package main

import (
	"path/filepath"
	"strings"
)

// draw measures the curves of all plots and writes the plots into a folder.
func (f *field) draw(folder string, e effort) error {
	others, err := curves(f.others(), e)
	if err != nil {
		return err
	}
	var notices []curve
	for i, t := range f.targets {
		own, err := curves(t.contenders(), e)
		if err != nil {
			return err
		}
		if err := plotHot(filepath.Join(folder, hotPlot(t.Version())), t.Version(), append(own, others...)); err != nil {
			return err
		}
		if i == 0 { // the curves are the same on every server
			connections, err := t.connectionCurves(e)
			if err != nil {
				return err
			}
			if err := plotConnections(filepath.Join(folder, "connections.svg"), connections); err != nil {
				return err
			}
		}
		losses, err := t.losses(2*e.kills, 100)
		if err != nil {
			return err
		}
		noticed := curve{name: t.Version()}
		for _, l := range losses {
			noticed.x = append(noticed.x, 1000*l.notice)
		}
		notices = append(notices, noticed)
	}
	return plotLoss(filepath.Join(folder, "loss.svg"), notices)
}

// hotPlot returns the file name of a server's plot, for example hot-mysql.svg
// for "MySQL 9.7.4".
func hotPlot(server string) string {
	product, _, _ := strings.Cut(server, " ")
	return "hot-" + strings.ToLower(product) + ".svg"
}
