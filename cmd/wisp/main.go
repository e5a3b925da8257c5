// Command wisp prepares interactions, trains a recommender on them in full
// precision, compresses it to int8, and measures and runs what comes out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/internal/retrain"
)

// Exit codes of the command.
const (
	exitError       = 1   // something was wrong; standard error says what
	exitUnavailable = 3   // something outside could not be reached (no package registry answers)
	exitRefused     = 4   // retrain: the candidate may be worse than what serves, nothing was published
	exitEvents      = 5   // retrain: the new events are unusable, nothing was learnt from them
	exitLocked      = 6   // retrain: another job is at work on the same state
	exitInterrupted = 130 // Ctrl-C or SIGTERM; finished work was kept
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out one command line and returns its exit code. Results go to
// stdout; progress and errors go to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	out := &output{w: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := applyConfig(cmd); err != nil {
			return err
		}
		err := cmd.ValidateRequiredFlags() // cobra looks at them after this hook
		started = err == nil
		return err
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && out.err != nil {
		started, err = true, out.err
	}
	switch {
	case err == nil:
		return 0
	case !started:
		fmt.Fprintf(stderr, "wisp: %v; see %s --help\n", err, cmd.CommandPath())
	case isFull(err):
		fmt.Fprintln(stderr, "wisp: the disk is full:", withHint(fmt.Errorf("%w; free some space there", err), "then run the command again"))
	case isInterrupted(err):
		fmt.Fprintln(stderr, "wisp: interrupted;", interruptedHint(err))
		return exitInterrupted
	case errors.Is(err, errRefused):
		fmt.Fprintln(stderr, "wisp:", err)
		return exitRefused
	case errors.Is(err, retrain.ErrEvents):
		fmt.Fprintln(stderr, "wisp:", withHint(err, ""))
		return exitEvents
	case errors.Is(err, retrain.ErrLocked):
		fmt.Fprintln(stderr, "wisp:", err)
		return exitLocked
	case isUnavailable(err):
		fmt.Fprintln(stderr, "wisp:", err)
		return exitUnavailable
	default:
		fmt.Fprintln(stderr, "wisp:", withHint(err, ""))
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "wisp",
		Short: "Train, compress and run recommenders that fit into a WebAssembly sandbox",
		Long: `wisp trains a recommender in full precision, squeezes it to int8 and puts it,
with the kernel that runs it, into one .wisp file. The file gives the same bits as
the answer on an edge gateway, in a browser and here.

The commands follow the flow of the work:

  data, simulate -> prepare -> distil-encoder, pretrain, finetune -> train, cross -> ensemble, distil, prune
    -> fit-ratings, fit-classes -> compress -> eval, report, recommend -> sign, publish -> retrain

--config FILE reads flags of a command from a YAML file, by their names and without
dashes; what the command line says wins. Paths are as on the command line:

  out: model
  epochs: 20
  resume: true`,
		Example: `  wisp data ml-100k --out raw
  wisp prepare --format recbole --events raw/ml-100k.inter --items raw/ml-100k.item --users raw/ml-100k.user --out prepared
  wisp train prepared --out model
  wisp train prepared --out model --config train.yaml
  wisp compress model --data prepared --out ml-100k.wisp
  wisp eval --data prepared --model model --artefact ml-100k.wisp
  wisp recommend ml-100k.wisp --history 50,172,181
  wisp keygen --out my.key
  wisp sign my.key ml-100k.wisp`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().String(configFlag, "", "YAML `file` of flags; those of the command line win")
	root.AddCommand(
		newData(), newPull(), newSimulate(), newPrepare(), newPretrain(), newDistilEncoder(), newFinetune(), newTrain(), newCross(),
		newEnsemble(), newDistil(), newPrune(), newFitRatings(), newFitClasses(), newCompress(), newEval(), newReport(), newRecommend(), newInspect(), newKeygen(),
		newSign(), newPublish(), newVerify(), newRetrain(), newDoctor(), newResults(),
	)
	return root
}

// version is the version of this build as the module system knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
