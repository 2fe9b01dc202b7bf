// Uses a service through the types that openapi-typescript makes of its OpenAPI document, with openapi-fetch.
// `tsc` checks each path, request and reply; a line below `@ts-expect-error` must not compile.

import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type User = components["schemas"]["User"];
type Problem = components["schemas"]["Problem"];

declare const process: { argv: string[] };
const client = createClient<paths>({ baseUrl: process.argv[3]! });

let access = "";
const bearer: Middleware = {
  onRequest({ request }) {
    if (access) request.headers.set("authorization", `Bearer ${access}`);
    return request;
  },
};
client.use(bearer);

function check(condition: boolean, seen: unknown): asserts condition {
  if (!condition) throw new Error(`unexpected: ${JSON.stringify(seen)}`);
}

// Returns the body of a reply that is not an error.
function ok<T>(status: number, reply: { data?: T; error?: Problem; response: Response }): T {
  check(reply.response.status === status && reply.error === undefined, reply.error ?? reply.response.status);
  return reply.data as T;
}

const email = "ann@example.com", password = "correct horse battery";
const created: User = ok(201, await client.POST("/auth/create", { body: { email, password } }));
check(created.email === email && created.last_login === null, created);

const pair = ok(200, await client.POST("/auth/signin", { body: { email, password } }));
ok(200, await client.POST("/auth/signin", { body: { username: email, password } }));
check(pair.expires_in === 300 && pair.refresh_expires_in === 86400, pair);
access = pair.access_token;
const me = ok(200, await client.GET("/auth/users/me"));
check(me.id === created.id && me.last_login !== null, me);

const renewed = ok(200, await client.POST("/auth/refresh-access", { body: { refresh_token: pair.refresh_token } }));
access = renewed.access_token;
const users: User[] = ok(200, await client.GET("/auth/users", { params: { query: { limit: 200 } } }));
check(users.some((user) => user.id === me.id && user.is_active && !user.is_staff), users);
const sessions = ok(200, await client.GET("/auth/sessions"));
check(sessions.length === 2 && sessions.filter((session) => session.current).length === 1, sessions);

ok(204, await client.POST("/auth/signout", { body: { refresh_token: pair.refresh_token } }));
const refused = await client.GET("/auth/users");
check(refused.error?.code === "invalid-token" && refused.error.status === 401, refused);
check(refused.response.headers.get("content-type") === "application/problem+json", refused.response.headers);

// `errors` names the members at fault.
access = "";
const invalid = await client.POST("/auth/create", { body: { email: "ann", password } });
check(invalid.error?.code === "invalid-request" && invalid.error.errors?.[0]?.pointer === "/email", invalid);

// Requests that the types do not allow. None of them is sent.
export const mistakes = [
  // @ts-expect-error: no such path
  () => client.GET("/auth/nothing"),
  // @ts-expect-error: the e-mail is missing
  () => client.POST("/auth/create", { body: { password } }),
  // @ts-expect-error: `email` or `username`, not both
  () => client.POST("/auth/signin", { body: { email, username: email, password } }),
  // @ts-expect-error: no such error code
  () => refused.error?.code === "invalid-tokens",
  // @ts-expect-error: a claim has no type of its own
  (): string | undefined => me.claims?.["plan"],
  (): unknown => me.claims?.["plan"],
];
console.log(`typescript client: the whole flow as user ${me.id}`);
