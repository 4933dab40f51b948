//! One function as Lambda takes it: a zip with one file `bootstrap` in it, which only its bytes decide.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// DESIGN §10, in bytes.
pub(super) const LIMIT: u64 = 6_000_000;

/// Zips a binary. The sizes of both.
pub(super) fn zip(binary: &Path, archive: &Path) -> Result<(u64, u64), String> {
    let code = fs::read(binary).map_err(|error| format!("cannot read {}: {error}", binary.display()))?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", archive.display());
    // The time is zip's earliest, and the compressor is in `Cargo.lock`: the same binary is the same zip, on any machine.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let file = File::create(archive).map_err(|error| failed(&error))?;
    let mut writer = ZipWriter::new(file);
    writer.start_file("bootstrap", options).map_err(|error| failed(&error))?;
    writer.write_all(&code).map_err(|error| failed(&error))?;
    let file = writer.finish().map_err(|error| failed(&error))?;
    let size = file.metadata().map_err(|error| failed(&error))?.len();
    Ok((code.len() as u64, size))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_others_read_in_it_is_one_executable_bootstrap() {
        let folder = std::env::temp_dir().join(format!("redress-archive-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Any executable will do.
        let (binary, archive) = (std::env::current_exe().unwrap(), folder.join("redress-recorder.zip"));
        let (whole, zipped) = zip(&binary, &archive).unwrap();
        assert!(0 < zipped && zipped < whole);
        let lists = "import sys, zipfile; print([(i.filename, i.date_time[0], i.external_attr >> 16 & 0o111) for i in zipfile.ZipFile(sys.argv[1]).infolist()], zipfile.ZipFile(sys.argv[1]).testzip())";
        let listed = Command::new("python3").args(["-c", lists]).arg(&archive).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "[('bootstrap', 1980, 73)] None");
        fs::remove_dir_all(folder).unwrap();
    }
}
