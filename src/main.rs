use std::process::ExitCode;

fn main() -> ExitCode {
    signet::cli::main()
}
