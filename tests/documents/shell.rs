//! One bash for all blocks of a page, as a reader would have it: what a block sets, the next one has.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const END: &str = "=== the block has ended ===";

/// A running `bash -euo pipefail`.
pub(crate) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    dir: PathBuf,
}

impl Shell {
    /// In a directory, with nothing in its environment but `PATH` and what is given.
    pub(crate) fn new(dir: &Path, env: &[(&str, String)]) -> Self {
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc", "-euo", "pipefail"])
            .current_dir(dir)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join("stderr")).expect("a file"))
            .spawn()
            .expect("bash");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output), dir: dir.to_owned() }
    }

    /// Runs a block and returns what it wrote; a command in it that fails fails the test.
    pub(crate) fn run(&mut self, block: &str) -> String {
        let file = self.dir.join("block.sh");
        std::fs::write(&file, block).expect("written");
        writeln!(self.input, "source '{}' </dev/null\nprintf '\\n%s\\n' '{END}'", file.display())
            .expect("bash listens");
        let mut said = String::new();
        loop {
            let before = said.len();
            if self.output.read_line(&mut said).expect("text") == 0 {
                let errors = std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
                panic!("a command failed in\n{block}\nIt wrote\n{said}\n{errors}");
            }
            if said[before..].trim_end() == END {
                said.truncate(before);
                return said.trim_end().to_owned();
            }
        }
    }

    /// The same, for JSON.
    pub(crate) fn json(&mut self, block: &str) -> serde_json::Value {
        let said = self.run(block);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in\n{said}\nwritten by\n{block}"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
