package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/tetratelabs/wazero"
)

// The product that is timed: tokens, outputs and inputs of a map of MiniLM.
const productM, productN, productK = 32, 384, 384

// productWorker times the products of a module, wasm/guest/bench/product.c, in
// the way of a peer.
func productWorker(ctx context.Context, file string) error {
	binaryModule, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer func() { _ = r.Close(ctx) }()
	module, err := r.Instantiate(ctx, binaryModule)
	if err != nil {
		return err
	}
	const a, w, c, x = 1 << 17, 1 << 18, 1 << 19, 1 << 20
	memory, product := module.Memory(), module.ExportedFunction("product")
	if _, ok := memory.Grow(32); !ok {
		return fmt.Errorf("the memory does not grow")
	}
	in, weights := make([]byte, 2*productM*productK), make([]byte, productN*productK)
	for i := range productM * productK {
		binary.LittleEndian.PutUint16(in[2*i:], uint16(i*7919%4095-2047))
	}
	for i := range weights {
		weights[i] = byte(i*104729%255 - 127)
	}
	memory.Write(a, in)
	memory.Write(w, weights)
	stack := make([]uint64, 7)
	once := func() error {
		copy(stack, []uint64{c, productM, productN, productK, a, w, x})
		return product.CallWithStack(ctx, stack)
	}
	if err := once(); err != nil {
		return err
	}
	out, ok := memory.Read(c, 4*productM*productN)
	if !ok {
		return fmt.Errorf("the result lies outside of the memory")
	}
	var sum uint32
	for i := 0; i < len(out); i += 4 {
		sum = sum*31 + binary.LittleEndian.Uint32(out[i:])
	}
	fmt.Printf("wazero %d\n", sum)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n int
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
			return err
		}
		if err := once(); err != nil {
			return err
		}
		start := time.Now()
		for range n {
			if err := once(); err != nil {
				return err
			}
		}
		fmt.Println(time.Since(start).Seconds())
	}
	return nil
}
