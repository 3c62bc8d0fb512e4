//! `demo`: placeholder
pub(super) async fn run() -> Result<(), crate::cli::Failure> {
    Ok(())
}
