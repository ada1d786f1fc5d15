//! Writes the inputs that fuzzing begins with into `corpus`, a folder for each target.

use std::{fs, io, path::Path};

use maishou::media::fuzzing::TARGETS;

fn main() -> io::Result<()> {
    for target in &TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
