package main

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The size of a plot in points (800 by 400 pixels), and the width of its
// legend. The legend has room for fonts that are a third wider than its own.
const (
	width       vg.Length = 600
	height      vg.Length = 300
	legendWidth vg.Length = 176
	margin      vg.Length = 8
)

// colours are those of Okabe and Ito, which colour-blind readers can also tell
// apart. A contender has the same colour in every plot.
var colours = map[string]color.Color{
	"namedlock, hand-off": color.RGBA{0x00, 0x72, 0xb2, 0xff}, // blue
	"namedlock":           color.RGBA{0x00, 0x9e, 0x73, 0xff}, // green
	"by hand":             color.RGBA{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	"PostgreSQL":          color.RGBA{0xcc, 0x79, 0xa7, 0xff}, // purple
	"redislock":           color.RGBA{0xe6, 0x9f, 0x00, 0xff}, // orange
	"sync.Mutex":          color.RGBA{0x77, 0x77, 0x77, 0xff}, // grey: it is not a rival, but the limit
	"MariaDB":             color.RGBA{0x00, 0x72, 0xb2, 0xff},
	"MySQL":               color.RGBA{0xd5, 0x5e, 0x00, 0xff},
}

// A figure is a plot with its legend at the side, where it covers no curve.
type figure struct {
	*plot.Plot
	legend plot.Legend
}

func newFigure(title, x, y string) *figure {
	f := &figure{Plot: plot.New(), legend: plot.NewLegend()}
	f.Title.Text = title
	f.X.Label.Text, f.Y.Label.Text = x, y
	sans := func(size vg.Length) font.Font { return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size} }
	f.Title.TextStyle.Font = sans(13)
	f.Title.Padding = 8
	f.legend.TextStyle.Font = sans(11)
	f.legend.Top, f.legend.Left = true, true
	f.legend.Padding = 5
	for _, axis := range []*plot.Axis{&f.X, &f.Y} {
		axis.Label.TextStyle.Font = sans(11)
		axis.Label.Padding = 4
		axis.Tick.Label.Font = sans(10)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xe4}, color.Gray{0xe4}
	f.Add(grid)
	return f
}

// add draws a curve. If marked is true, it marks the points of the curve.
func (f *figure) add(c curve, marked bool) error {
	points := make(plotter.XYs, len(c.x))
	for i := range points {
		points[i] = plotter.XY{X: c.x[i], Y: c.y[i]}
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color = colours[c.name]
	if product, _, versioned := strings.Cut(c.name, " "); versioned && line.Color == nil {
		line.Color = colours[product]
	}
	line.Width = 1.8
	marks.Color, marks.Shape, marks.Radius = line.Color, draw.CircleGlyph{}, 2.4
	f.Add(line)
	if !marked {
		f.legend.Add(c.name, line)
		return nil
	}
	f.Add(marks)
	f.legend.Add(c.name, line, marks)
	return nil
}

func (f *figure) save(file string) error {
	c := vgsvg.New(width, height)
	canvas := draw.New(c)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	f.Draw(draw.Crop(canvas, margin, -legendWidth-margin, margin, -margin))
	f.legend.Draw(draw.Crop(canvas, width-legendWidth, -margin, margin, -36))

	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	// Most machines do not have this font, but one of the same metrics.
	svg := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif"))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, svg, 0o644)
}

// plotHot draws sections a second against goroutines.
func plotHot(file, server string, curves []curve) error {
	f := newFigure("One hot lock on "+server, "goroutines that want the lock", "sections a second")
	f.X.Scale, f.Y.Scale = plot.LogScale{}, plot.LogScale{}
	f.X.Tick.Marker = ticksAt(1, 2, 4, 8, 16, 32, 64)
	f.Y.Tick.Marker = decades{}
	// The curves are in the order of their last points, so that the legend is in
	// the order of the plot.
	curves = slices.SortedFunc(slices.Values(curves), func(a, b curve) int {
		return int(math.Copysign(1, b.y[len(b.y)-1]-a.y[len(a.y)-1]))
	})
	for _, c := range curves {
		if err := f.add(c.atLeastOne(), true); err != nil {
			return err
		}
	}
	f.Y.Min, f.Y.Max = decadesAround(f.Y.Min, f.Y.Max)
	return f.save(file)
}

// plotConnections draws connections against waiters.
func plotConnections(file string, curves []curve) error {
	f := newFigure("Connections of goroutines that wait for one lock", "waiting goroutines", "connections")
	f.X.Scale, f.Y.Scale = plot.LogScale{}, plot.LogScale{}
	f.X.Tick.Marker, f.Y.Tick.Marker = decades{}, decades{}
	for _, c := range curves {
		if err := f.add(c.atLeastOne(), true); err != nil {
			return err
		}
	}
	f.Y.Min, f.Y.Max = decadesAround(f.Y.Min, f.Y.Max)
	return f.save(file)
}

// plotLoss draws the share of kills that were noticed within a number of
// milliseconds.
func plotLoss(file string, notices []curve) error {
	const goal, least, most = 50, 0.1, 100
	f := newFigure("From KILL until the last context under it has ended", "milliseconds", "share of the kills, %")
	for _, n := range notices {
		if err := f.add(distribution(n, least), false); err != nil {
			return err
		}
	}
	promised, err := plotter.NewLine(plotter.XYs{{X: goal, Y: 0}, {X: goal, Y: 100}})
	if err != nil {
		return err
	}
	promised.Color = color.Gray{0x55}
	promised.Dashes = []vg.Length{4, 3}
	f.Add(promised)
	f.legend.Add("promised", promised)
	f.X.Scale = plot.LogScale{}
	f.X.Min, f.X.Max, f.Y.Min, f.Y.Max = least, max(f.X.Max, most), 0, 100
	f.X.Tick.Marker = decades{}
	f.Y.Tick.Marker = ticksAt(0, 25, 50, 75, 100)
	return f.save(file)
}

// distribution turns the samples in c.x into the cumulative share of them, in
// steps, from least on.
func distribution(c curve, least float64) curve {
	d := curve{name: c.name, x: samples{least}, y: samples{0}}
	for i, x := range slices.Sorted(slices.Values(c.x)) {
		x = max(x, least)
		before, after := 100*float64(i)/float64(len(c.x)), 100*float64(i+1)/float64(len(c.x))
		d.x = append(d.x, x, x)
		d.y = append(d.y, before, after)
	}
	return d
}

// atLeastOne returns c for a scale without a zero. On a busy machine no section
// may end in a short window.
func (c curve) atLeastOne() curve {
	c.y = slices.Clone(c.y)
	for i, y := range c.y {
		c.y[i] = max(1, y)
	}
	return c
}

// decades marks powers of ten, with labels such as 10k instead of 1e+04.
type decades struct{}

func (decades) Ticks(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(least))); power <= most*1.001; power *= 10 {
		for digit := 1.0; digit < 10; digit++ {
			x := digit * power
			if x < least*0.999 || x > most*1.001 {
				continue
			}
			tick := plot.Tick{Value: x}
			if digit == 1 {
				tick.Label = short(x)
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

func short(x float64) string {
	switch {
	case x >= 1e6:
		return strconv.FormatFloat(x/1e6, 'f', -1, 64) + "M"
	case x >= 1e3:
		return strconv.FormatFloat(x/1e3, 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

func ticksAt(at ...float64) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, x := range at {
		ticks = append(ticks, plot.Tick{Value: x, Label: short(x)})
	}
	return ticks
}

// decadesAround returns the powers of ten around two positive numbers.
func decadesAround(least, most float64) (from, to float64) {
	from, to = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)))
	return from, max(to, 10*from)
}
