//! Messages of the gRPC door out of `proto/`, and their description for clients that ask for it.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

#[expect(clippy::disallowed_methods, reason = "a build script is told by environment where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let description = protox::compile(["inference.proto", "health.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("services.bin"), description.encode_to_vec())?;
    // Tensors are views of the message they came in.
    prost_build::Config::new().bytes(["."]).compile_fds(description)?;
    Ok(())
}
