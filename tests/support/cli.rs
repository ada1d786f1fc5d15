//! The command line, run to its end.

use std::process::{Command, Output, Stdio};

use super::{
    process::end_with_parent,
    wait::{DEADLINE, within},
};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `maishou` with these arguments and environment, nothing of ours besides.
pub async fn maishou(args: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maishou"));
    command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    end_with_parent(&mut command);
    let running = tokio::task::spawn_blocking(move || command.output().expect("the binary can be started"));
    let what = format!("maishou {} to end", args.join(" "));
    let Output { status, stdout, stderr } = within(&what, DEADLINE, running).await.expect("waiting does not panic");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    Said { code: status.code().expect("it ends by itself"), stdout: text(stdout), stderr: text(stderr) }
}
