// Verifies tokens with Node's jose as a service does, with the address of the key set, the issuer and the audience.
// Reads a case as JSON from standard input and prints the names of the tokens that it accepts.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(pathToFileURL(`${process.argv[2]}/`))
const { createRemoteJWKSet, errors, jwtVerify } = await import(pathToFileURL(require.resolve('jose')))

const { algorithm, audience, issuer, jwks, secret, tokens } = JSON.parse(readFileSync(0, 'utf8'))
const keys = secret ? new TextEncoder().encode(secret) : createRemoteJWKSet(new URL(jwks))
const accepted = []
for (const { name, token } of tokens) {
  try {
    await jwtVerify(token, keys, { algorithms: [algorithm], audience, issuer, typ: 'at+jwt' })
    accepted.push(name)
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error
  }
}
console.log(JSON.stringify({ jose: accepted }))
