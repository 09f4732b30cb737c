package browsertest

import (
	"bytes"
	"cmp"
	"html"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	mostPicture = 200_000 // bytes
	mostHeight  = 1300    // pixels
)

// groupLinks are links to groups in a page.
var groupLinks = regexp.MustCompile(`href="(group\?[^"]+)"`)

// picture is a page to take a picture of.
type picture struct{ name, address string }

// TestPicturesOfPages takes a picture of a page. With TASKGEN_PICTURES it takes one of each page of
// the example, once that has run for a while, in both themes, and writes them to that folder.
func TestPicturesOfPages(t *testing.T) {
	to := os.Getenv("TASKGEN_PICTURES")
	if to == "" {
		t.Parallel()
		s := newSite(t)
		s.greet("ada")
		takePictures(t, s.base, t.TempDir(), []picture{{"queues", "queues"}})
		return
	}
	base, look := startExample(t)
	takePictures(t, base, to, examplePages(t, base, look))
}

// takePictures takes pictures of pages in both themes.
func takePictures(t *testing.T, base, to string, pictures []picture) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o755))
	tab := newTab(t, base)
	for _, p := range pictures {
		tab.size(1280, 800)
		tab.open(p.address)
		for _, theme := range []string{"light", "dark"} {
			tab.prefer("prefers-color-scheme", theme)
			height := min(max(evaluate[int64](tab, "document.documentElement.scrollHeight"), 800), mostHeight)
			tab.size(1280, height)
			shot, err := chromedp.Call(tab.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng})
			require.NoError(t, err)
			small := reduceColours(t, shot.Data)
			require.Less(t, len(small), mostPicture, p.name)
			config, err := png.DecodeConfig(bytes.NewReader(small))
			require.NoError(t, err)
			require.Equal(t, [2]int{1280, int(height)}, [2]int{config.Width, config.Height})
			require.NoError(t, os.WriteFile(filepath.Join(to, p.name+"-"+theme+".png"), small, 0o644))
		}
	}
}

// reduceColours returns a picture with 256 colours: half of them are those that it has the most
// of, the others are far from these. The nearest replaces each other colour, at edges of letters.
func reduceColours(t *testing.T, data []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	bounds := from.Bounds()
	pixels := make([]color.RGBA, 0, bounds.Dx()*bounds.Dy())
	counts := make(map[color.RGBA]int)
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c := color.RGBAModel.Convert(from.At(x, y)).(color.RGBA)
			pixels = append(pixels, c)
			counts[c]++
		}
	}
	colours := chooseColours(counts)
	nearest := make(map[color.RGBA]uint8)
	for c := range counts {
		nearest[c] = uint8(colours.Index(c))
	}
	small := image.NewPaletted(bounds, colours)
	for i, c := range pixels {
		small.Pix[i] = nearest[c]
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	require.NoError(t, encoder.Encode(&out, small))
	return out.Bytes()
}

func chooseColours(counts map[color.RGBA]int) (chosen color.Palette) {
	by := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	far := make([]float64, len(by)) // from the nearest chosen one, by how often it is there
	choose := func(i int) {
		chosen = append(chosen, by[i])
		for j, c := range by {
			r, g, b := float64(c.R)-float64(by[i].R), float64(c.G)-float64(by[i].G), float64(c.B)-float64(by[i].B)
			if d := (r*r + g*g + b*b) * math.Sqrt(float64(counts[c])); len(chosen) == 1 || d < far[j] {
				far[j] = d
			}
		}
	}
	for i := range min(len(by), 128) {
		choose(i)
	}
	for len(chosen) < min(len(by), 256) {
		choose(slices.Index(far, slices.Max(far)))
	}
	return chosen
}

// startExample starts the example over a server of its own and waits until it has something to
// show on each page. It returns its address.
func startExample(t *testing.T) (base string, look *taskrt.Inspector) {
	t.Helper()
	own := redistest.Start(t)
	program := filepath.Join(t.TempDir(), "shop")
	out, err := exec.Command("go", "build", "-trimpath", "-o", program, "../../examples/dashboard").CombinedOutput()
	require.NoError(t, err, "%s", out)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := exec.Command(program, "-http", address, "-broker", own.URL())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it has ended, else
		_ = cmd.Wait()
	})
	b, err := redis.Open(t.Context(), own.URL(), redis.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	look, err = taskrt.NewInspector(b)
	require.NoError(t, err)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for end := time.Now().Add(4 * time.Minute); ; <-again.C {
		require.True(t, time.Now().Before(end), "the example shows nothing")
		panicked, err := look.Dead(t.Context(), taskrt.RunFilter{Task: "resize_picture"}, taskrt.PageOptions{Max: 1})
		if err != nil || len(panicked.Letters) == 0 {
			continue
		}
		declined, err := look.Dead(t.Context(), taskrt.RunFilter{Task: "charge_card"}, taskrt.PageOptions{Max: 3})
		if err == nil && len(declined.Letters) >= 2 {
			break
		}
	}
	reply, err := http.Get("http://" + address + "/")
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	return "http://" + address + "/", look
}

// examplePages returns the pages of the example, each with something to show.
func examplePages(t *testing.T, base string, look *taskrt.Inspector) []picture {
	t.Helper()
	pictures := []picture{
		{"overview", "./"}, {"queues", "queues"}, {"queue", "queue?name=payments"}, {"runs", "runs"}, {"runs-failed", "runs?state=failed&error=50"},
		{"dead", "dead"}, {"tasks", "tasks"}, {"task", "task?name=create_shipment"}, {"schedules", "schedules"}, {"consumers", "consumers"}, {"limits", "limits"},
		{"bulk", "bulk?do=cancel&state=delayed"},
	}
	run := func(name string, page func() (id, queue string)) {
		if id, queue := page(); id != "" {
			pictures = append(pictures, picture{name, "run?id=" + id + "&queue=" + queue})
		}
	}
	run("run-failed", func() (id, queue string) {
		found, err := look.Dead(t.Context(), taskrt.RunFilter{Task: "resize_picture"}, taskrt.PageOptions{Max: 1})
		require.NoError(t, err)
		return found.Letters[0].Run.ID, found.Letters[0].Run.Queue
	})
	failed := pictures[len(pictures)-1]
	if link := groupLinks.FindStringSubmatch(getPage(t, base+failed.address, failed.name)); link != nil {
		pictures = append(pictures, picture{"group", html.UnescapeString(link[1])})
	}
	for name, f := range map[string]taskrt.RunFilter{
		"run-progress":  {Task: "import_catalogue", States: []broker.State{broker.StateRunning}},
		"run-succeeded": {Task: "charge_card", States: []broker.State{broker.StateSucceeded}},
	} {
		run(name, func() (id, queue string) {
			found, err := look.Runs(t.Context(), f, taskrt.PageOptions{Max: 1})
			require.NoError(t, err)
			if len(found.Runs) == 0 {
				return "", ""
			}
			return found.Runs[0].Run.ID, found.Runs[0].Run.Queue
		})
	}
	// It may end while pictures are taken: it comes first.
	first := func(p picture) bool { return p.name == "run-progress" }
	if i := slices.IndexFunc(pictures, first); i > 0 {
		pictures[0], pictures[i] = pictures[i], pictures[0]
	}
	return pictures
}
