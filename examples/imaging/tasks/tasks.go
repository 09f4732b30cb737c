// Package tasks makes thumbnails. Its code has realistic faults, each of which would
// crash or hang a whole program.
package tasks

import (
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // to read it
	"image/png"
	"os"
	"path/filepath"
	"sync"
)

//go:generate go tool taskgen

// Size is the width and height of a thumbnail in pixels.
const Size = 64

// Thumb is a finished thumbnail.
type Thumb struct {
	Path          string
	Width, Height int // size of the picture
	Colours       int
	PID           int // id of the process that made it
}

// Thumbnail writes a small copy of a picture, in 16 colours.
//
//task:cpu
//task:timeout 3s
//task:memory 128MiB
//task:retry 0
//task:result 1h
func Thumbnail(ctx context.Context, picture, dir string) (Thumb, error) {
	f, err := os.Open(picture)
	if err != nil {
		return Thumb{}, err
	}
	defer f.Close()
	img, _, err := image.Decode(f) // takes as much memory as the header declares
	if err != nil {
		return Thumb{}, fmt.Errorf("decode %s: %w", filepath.Base(picture), err)
	}
	small := shrink(img)
	colours := palette(small)
	thumb := Thumb{
		Path:  filepath.Join(dir, filepath.Base(picture)+".thumb.png"),
		Width: img.Bounds().Dx(), Height: img.Bounds().Dy(),
		Colours: len(colours), PID: os.Getpid(),
	}
	return thumb, save(thumb.Path, reduce(small, colours))
}

// shrink samples the picture, each row on its own goroutine. If the picture is
// narrower than the thumbnail, the step is 0 and the goroutine panics. No recover in
// Thumbnail can catch that, so the process ends.
func shrink(img image.Image) *image.RGBA {
	small := image.NewRGBA(image.Rect(0, 0, Size, Size))
	b := img.Bounds()
	var rows sync.WaitGroup
	for y := range Size {
		rows.Go(func() {
			step := b.Dx() / Size
			for x := 0; x < b.Dx()/step*step && x/step < Size; x += step {
				small.Set(x/step, y, img.At(b.Min.X+x, b.Min.Y+y*b.Dy()/Size))
			}
		})
	}
	rows.Wait()
	return small
}

// palette picks 16 colours of the picture. If the picture has fewer, it searches
// forever and never checks a context.
func palette(img *image.RGBA) color.Palette {
	var picked color.Palette
	seen := make(map[color.Color]bool)
	for i := 0; len(picked) < 16; i += 101 {
		c := img.At(i%Size, i/Size%Size)
		if !seen[c] {
			seen[c] = true
			picked = append(picked, c)
		}
	}
	return picked
}

func reduce(img *image.RGBA, colours color.Palette) image.Image {
	out := image.NewPaletted(img.Bounds(), colours)
	for y := range Size {
		for x := range Size {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out
}

func save(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(f, img); err != nil {
		f.Close()
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return f.Close()
}
