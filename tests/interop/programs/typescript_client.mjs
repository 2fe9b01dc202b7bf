// Makes TypeScript types of a service's OpenAPI document, compiles typescript_client.ts with them, and runs it.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [libraries, url] = process.argv.slice(2);
const folder = join(libraries, "typescript-client");
const run = (program, ...args) => {
  try {
    const file = join(libraries, "node_modules", program);
    execFileSync(process.execPath, [file, ...args], { cwd: folder, encoding: "utf8" });
  } catch (error) {
    console.error(error.stdout, error.stderr);
    process.exit(1);
  }
};
mkdirSync(folder, { recursive: true });
copyFileSync(new URL("typescript_client.ts", import.meta.url), join(folder, "client.ts"));
writeFileSync(join(folder, "package.json"), '{ "type": "module" }\n');
run("openapi-typescript/bin/cli.js", `${url}/openapi.json`, "--output", "schema.d.ts");
const strict = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"];
run("typescript/bin/tsc", ...strict, "client.ts");
await import(pathToFileURL(join(folder, "client.js")));
