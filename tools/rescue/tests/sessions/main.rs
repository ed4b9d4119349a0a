//! What people meet: the ssh server as the system's own OpenSSH client sees it, the console, the commands.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests are outside the functions clippy looks for"
)]

mod commands;
mod console;
mod machine;
mod port;
mod server;
mod ssh;
mod ssh_clients;
mod ssh_flow;
mod ssh_forward;
mod ssh_keys;
mod ssh_pipes;
mod ssh_scan;
mod ssh_shared;
mod ssh_terminal;
mod sshfp;
mod stand_in;
mod tunnel;
