//! The text of a section, which may be incomplete.

/// What was collected for a section.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SectionText {
    pub(super) text: String,
    /// Why the rest is missing.
    pub(super) gap: Option<String>,
}

impl From<String> for SectionText {
    fn from(text: String) -> Self {
        Self { text, gap: None }
    }
}
