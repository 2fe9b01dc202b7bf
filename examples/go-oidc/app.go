// A service that verifies Signet's tokens with go-oidc.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/coreos/go-oidc" // version 3: "github.com/coreos/go-oidc/v3/oidc"
)

func newVerifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	provider, err := oidc.NewProvider(ctx, "https://id.example.com")
	if err != nil {
		return nil, err
	}
	return provider.Verifier(&oidc.Config{
		ClientID:             "https://orders.example.com", // the audience
		SupportedSigningAlgs: []string{oidc.ES256},
	}), nil
}

func main() {
	verifier, err := newVerifier(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			http.Error(w, "invalid token", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, token.Subject)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:9000", nil))
}
