package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
)

// pictures returns the picture files of a folder. It fills an empty folder.
func pictures(dir string) ([]string, error) {
	find := func() ([]string, error) { return filepath.Glob(filepath.Join(dir, "*.[pj]*g")) }
	files, err := find()
	if err != nil || len(files) > 0 {
		return files, err
	}
	if err := paint(dir); err != nil {
		return nil, err
	}
	return find()
}

// paint makes a dozen good pictures, and one for each fault.
func paint(dir string) error {
	files := make(map[string][]byte)
	for i := range 12 {
		picture := waves(400+20*i, 300+10*i, 9)
		if i%2 == 0 {
			files[fmt.Sprintf("holiday-%02d.png", i)] = encode(png.Encode, picture)
		} else {
			files[fmt.Sprintf("holiday-%02d.jpg", i)] = encode(toJPEG, picture)
		}
	}
	files["blue-sky.png"] = encode(png.Encode, waves(300, 200, 0))
	files["ribbon.png"] = encode(png.Encode, waves(12, 300, 9))
	files["bomb.png"] = bomb(30000)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// waves returns a picture with colours colours in each direction, or with none.
func waves(width, height, colours int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetRGBA(x, y, color.RGBA{uint8(20 * (x * colours / width)), uint8(25 * (y * colours / height)), 200, 255})
		}
	}
	return img
}

func toJPEG(w io.Writer, img image.Image) error { return jpeg.Encode(w, img, nil) }

func encode(as func(io.Writer, image.Image) error, img image.Image) []byte {
	var b bytes.Buffer
	_ = as(&b, img) // a buffer returns no error
	return b.Bytes()
}

// bomb returns a PNG file of some 100 KiB whose picture takes a byte for each of its
// side × side black pixels.
func bomb(side int) []byte {
	var rows bytes.Buffer
	z := zlib.NewWriter(&rows)
	row := make([]byte, 1+(side+7)/8) // its filter, and one bit for each pixel
	for range side {
		_, _ = z.Write(row)
	}
	_ = z.Close()
	header := binary.BigEndian.AppendUint32(nil, uint32(side))
	header = binary.BigEndian.AppendUint32(header, uint32(side))
	header = append(header, 1, 0, 0, 0, 0) // one bit of grey
	b := []byte("\x89PNG\r\n\x1a\n")
	b = appendChunk(b, "IHDR", header)
	b = appendChunk(b, "IDAT", rows.Bytes())
	return appendChunk(b, "IEND", nil)
}

func appendChunk(b []byte, kind string, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	at := len(b)
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}
