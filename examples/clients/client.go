// bertserve from Go: health, vectors, masked words, next sentences, and what a refusal says.
//
//	go run . [HOST:PORT [SECONDS]]
//
// Beside it lie the stubs that buf.gen.yaml generates and the published service_config.json: see README.md.
package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // lets the channel leave replicas alone that do not serve
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	bertpb "example.com/bertclient/bertapi/v1"
)

// Round robin over healthy replicas, and retries where one is UNAVAILABLE (before grpc-go 1.40 with GRPC_GO_RETRY=on).
//
//go:embed service_config.json
var serviceConfig string

// Answers may take 64 MiB; gRPC's own limit is 4.
const maxAnswerBytes = 68 << 20

func main() {
	target, seconds := argument(1, "127.0.0.1:50051"), argument(2, "30")
	timeout, err := time.ParseDuration(seconds + "s")
	if err != nil || timeout <= 0 {
		fmt.Fprintln(os.Stderr, "usage: client [HOST:PORT [SECONDS]]")
		os.Exit(2)
	}
	if err := run(target, timeout); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", describe(err))
		os.Exit(1)
	}
}

func run(target string, timeout time.Duration) error {
	// dns:/// resolves a name to all of its addresses. WithInsecure is for builds with an old grpc-go too; a new one
	// says grpc.NewClient, and insecure.NewCredentials() or TLS.
	connection, err := grpc.Dial("dns:///"+target, grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)))
	if err != nil {
		return err
	}
	defer connection.Close()
	bert := bertpb.NewBertServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	health, err := healthpb.NewHealthClient(connection).Check(ctx,
		&healthpb.HealthCheckRequest{Service: "bertapi.v1.BertService"})
	if err != nil {
		return err
	}
	fmt.Println("health:", health.Status)

	embedded, err := bert.Embed(ctx, &bertpb.EmbedRequest{Inputs: texts("A cat sat here.", "A dog lay there.")})
	if err != nil {
		return err
	}
	first, second := floats(embedded.Embeddings[0].Vectors), floats(embedded.Embeddings[1].Vectors)
	fmt.Printf("embed: 2 vectors of %d, cosine %.4f\n", len(first), cosine(first, second))

	filled, err := bert.FillMask(ctx, &bertpb.FillMaskRequest{
		Inputs:  texts("The [MASK] sat on the mat"),
		Options: &bertpb.FillMaskOptions{TopK: proto.Uint32(3)},
	})
	if err != nil {
		return err
	}
	var words []string
	for _, word := range filled.Results[0].Masks[0].Predictions {
		words = append(words, word.Text+" "+percent(word.Probability))
	}
	fmt.Println("fill mask:", strings.Join(words, ", "))

	scored, err := bert.ScoreNextSentence(ctx, &bertpb.ScoreNextSentenceRequest{
		First:      "The river flows through the city.",
		Candidates: []string{"It empties into the sea.", "The band released their second album."},
	})
	if err != nil {
		return err
	}
	var scores []string
	for _, score := range scored.Scores {
		scores = append(scores, percent(score.Probability))
	}
	fmt.Println("next sentence:", strings.Join(scores, ", "))

	if _, err = bert.FillMask(ctx, &bertpb.FillMaskRequest{Inputs: texts("No word is hidden here")}); err != nil {
		fmt.Println("refused:", describe(err))
	}
	return nil
}

func argument(index int, otherwise string) string {
	if len(os.Args) > index {
		return os.Args[index]
	}
	return otherwise
}

func texts(texts ...string) (inputs []*bertpb.TextInput) {
	for _, text := range texts {
		inputs = append(inputs, &bertpb.TextInput{Text: text})
	}
	return inputs
}

func floats(tensor *bertpb.Tensor) []float64 {
	values := make([]float64, len(tensor.Data)/4)
	for i := range values {
		values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(tensor.Data[4*i:])))
	}
	return values
}

func cosine(a, b []float64) float64 {
	return dot(a, b) / math.Sqrt(dot(a, a)*dot(b, b))
}

func dot(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func percent(probability float32) string {
	return fmt.Sprintf("%.0f%%", 100*probability)
}

// The status, the fields at fault (google.rpc.BadRequest) and when to try again (google.rpc.RetryInfo).
func describe(err error) string {
	failed := status.Convert(err)
	var faults []string
	again := ""
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				faults = append(faults, violation.Field+": "+violation.Description)
			}
		case *errdetails.RetryInfo:
			again = fmt.Sprintf("; try again in %.1f s", detail.RetryDelay.AsDuration().Seconds())
		}
	}
	if faults == nil {
		faults = []string{failed.Message()}
	}
	return fmt.Sprintf("%v: %s%s", code.Code(failed.Code()), strings.Join(faults, "; "), again)
}
