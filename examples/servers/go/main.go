// A server of SmolLM2-135M with kvc as its KV cache. docs/SERVERS.md tells what it promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"kvc"
)

const (
	grace       = 2 * time.Second // of running streams at the end
	lastAnswers = time.Second
	requestTime = 10 * time.Second // in which a head must come, and then its body
)

func main() {
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

type settings struct {
	port, arenaBytes, threads, maxQueue, writeTimeout int
	folder, mode, policy                              string
}

const (
	threadsMost      = 257 // the calling one, and as many as the model library starts
	writeTimeoutMost = 86400
)

func defaultThreads(processors int) int { return min(processors, threadsMost) }

// number adds an option that is a number from least to most.
func number(flags *flag.FlagSet, out *int, name string, usual, least, most int, usage string) {
	*out = usual
	flags.Func(name, fmt.Sprintf("%s (default %d)", usage, usual), func(text string) error {
		value, err := strconv.Atoi(text)
		if err != nil || value < least || value > most {
			return fmt.Errorf("an integer from %d to %d is needed", least, most)
		}
		*out = value
		return nil
	})
}

func parseSettings() (settings, error) {
	var s settings
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	number(flags, &s.port, "port", 8080, 0, math.MaxUint16, "loopback port; 0 = a free one")
	flags.StringVar(&s.folder, "model", "build/servers/model", "folder of the model's files")
	flags.StringVar(&s.mode, "mode", "int4", "codec of the cache")
	number(flags, &s.arenaBytes, "arena-bytes", 256<<20, 1, math.MaxInt, "byte budget of the cache")
	flags.StringVar(&s.policy, "policy", "", "what is given up when memory is full")
	number(flags, &s.threads, "threads", defaultThreads(runtime.NumCPU()), 1, threadsMost, "threads that compute, 1 to 257")
	number(flags, &s.maxQueue, "max-queue", 64, 0, math.MaxInt, "requests that may wait")
	number(flags, &s.writeTimeout, "write-timeout", 30, 1, writeTimeoutMost, "seconds after which a client that takes nothing has gone")
	flags.SetOutput(io.Discard) // what is wrong is said where the program ends
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Println("options, as --name value:")
			flags.SetOutput(os.Stdout)
			flags.PrintDefaults()
		}
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("no words may follow: %q", flags.Args())
	}
	return s, nil
}

func run() error {
	signals := make(chan os.Signal, 1) // kept until there is something to end
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	set, err := parseSettings()
	if err != nil {
		return err
	}
	model, err := OpenModel(set.folder, set.threads)
	if err != nil {
		return err
	}
	defer model.Close()
	policy, err := parsePolicy(set.policy, set.mode)
	if err != nil {
		return err
	}
	options := kvc.Options{Layers: model.layers, KVHeads: model.kvHeads, QHeads: model.qHeads, KDim: model.headDim, Codec: set.mode,
		ArenaBytes: set.arenaBytes, Threads: set.threads - 1, Policy: policy.library, ContextTokens: model.context}
	cache, err := kvc.New(options)
	if err != nil {
		return err
	}
	defer cache.Close()
	admission := newAdmission(options, policy)
	if share, err := admission.Share(64); err != nil || share == 0 {
		return fmt.Errorf("--arena-bytes %d holds not even one request of 64 tokens (%v)", set.arenaBytes, err)
	}
	server, err := newServer(newEngine(model, cache, admission, set.maxQueue))
	if err != nil {
		return err
	}
	return server.listen(set, signals)
}

func newServer(engine *Engine) (*Server, error) {
	opening, err := engine.model.Encode("<|im_start|>system")
	if err != nil {
		return nil, err
	}
	ending, err := engine.model.Encode("<|im_end|>")
	if err != nil {
		return nil, err
	}
	return &Server{engine: engine, opening: opening, ending: ending[0], began: time.Now()}, nil
}

// listenOn returns a socket on loopback. The system ends its connections where a client takes nothing of what is sent for so many
// seconds, and net/http hears of that as of a client that has gone, with or without a write under way.
func listenOn(port, writeTimeout int) (net.Listener, error) {
	const tcpUserTimeout = 18 // of Linux; package syscall has no name for it
	config := net.ListenConfig{Control: func(_, _ string, socket syscall.RawConn) error {
		var err error
		if fault := socket.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, writeTimeout*1000)
		}); fault != nil {
			return fault
		}
		return err
	}}
	config.SetMultipathTCP(false) // which has options of its own
	return config.Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// listen serves until a signal says to end, and checks that nothing is left.
func (s *Server) listen(set settings, signals <-chan os.Signal) error {
	listener, err := listenOn(set.port, set.writeTimeout)
	if err != nil {
		return err
	}
	go s.engine.Run()
	server := &http.Server{Handler: s.Routes(), ReadHeaderTimeout: requestTime, IdleTimeout: requestTime, ConnContext: withConnection,
		DisableGeneralOptionsHandler: true} // which says 200 to OPTIONS *
	go server.Serve(listener) // returns when the server is shut down
	fmt.Printf("listening on %s\n", listener.Addr())
	<-signals
	s.engine.Shutdown(grace)
	last, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if server.Shutdown(last) != nil {
		server.Close()
	}
	cache := s.engine.cache
	if err := cache.ClearPrefixes(); err != nil {
		return err
	}
	stats, err := cache.Stats()
	if err == nil && (stats.Sequences != 0 || stats.RecordBytes != 0 || stats.OpenSteps != 0) {
		err = fmt.Errorf("%d sequences, %d record bytes and %d steps are left", stats.Sequences, stats.RecordBytes, stats.OpenSteps)
	}
	return err
}
