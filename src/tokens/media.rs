//! What an image, document, recording or film weighs, by the providers' published formulas as far as they are simple.
//!
//! Media whose size is not in the request (behind an address or an id) weigh what a usual one does.

use super::{
    family::{Family, Vendor},
    image,
};
use crate::wire::request::{Media, MediaKind, Source};

/// An image of which nothing is known.
const USUAL_IMAGE: (u64, u64) = (1024, 1024);
/// A page of a PDF, in bytes.
const BYTES_PER_PAGE: u64 = 50_000;
/// A document of which nothing is known, in pages.
const USUAL_PAGES: u64 = 4;
/// Sound and film of which nothing is known, in seconds.
const USUAL_SECONDS: u64 = 30;

/// The text of a document that is one.
pub(super) fn text<'m>(media: &'m Media<'_>) -> Option<&'m str> {
    match &media.source {
        Source::Text(text) => Some(text),
        Source::Base64(_) | Source::Url(_) | Source::File(_) => None,
    }
}

/// The tokens of media.
pub(super) fn tokens(media: &Media<'_>, family: &Family) -> u64 {
    let data = match &media.source {
        Source::Base64(data) => Some(&**data),
        Source::Url(_) | Source::File(_) | Source::Text(_) => None,
    };
    let bytes = data.map(|data| data.len() as u64 * 3 / 4);
    match media.kind {
        MediaKind::Image => {
            let size = data.and_then(image::size).unwrap_or(USUAL_IMAGE);
            image_tokens(size, media.detail.as_deref(), family)
        }
        MediaKind::Document => {
            let pages = bytes.map_or(USUAL_PAGES, |bytes| bytes.div_ceil(BYTES_PER_PAGE).max(1));
            pages.saturating_mul(page_tokens(family))
        }
        MediaKind::Audio => {
            let per_second = if media.mime.contains("wav") { 48_000 } else { 16_000 };
            let seconds = bytes.map_or(USUAL_SECONDS, |bytes| bytes.div_ceil(per_second));
            seconds.saturating_mul(if family.vendor == Vendor::Google { 32 } else { 10 })
        }
        // Google: 258 tokens for the picture and 32 for the sound of each second; a megabit a second is a usual rate.
        MediaKind::Video => bytes.map_or(USUAL_SECONDS, |bytes| bytes.div_ceil(125_000)).saturating_mul(290),
    }
}

/// Anthropic's page on PDF support says 1,500 to 3,000 a page with its picture; Google's says 258; OpenAI's says nothing.
fn page_tokens(family: &Family) -> u64 {
    match family.vendor {
        Vendor::OpenaiOrOther => 300,
        Vendor::Anthropic => 2_000,
        Vendor::Google => 258,
    }
}

fn image_tokens(size: (u64, u64), detail: Option<&str>, family: &Family) -> u64 {
    match family.vendor {
        Vendor::OpenaiOrOther => openai_tokens(size, detail, &family.model),
        // Anthropic's page on vision: a pixel is 1/750 token, the long edge at most 1,568 pixels, about 1,600 in all.
        Vendor::Anthropic => {
            let (width, height) = fit(size, 1_568);
            (width * height).div_ceil(750).min(1_600)
        }
        // Google's page on tokens: 258 for a small image, else for each tile.
        Vendor::Google if size.0 <= 384 && size.1 <= 384 => 258,
        Vendor::Google => {
            let unit = (size.0.min(size.1) * 2 / 3).clamp(256, 768);
            (size.0.div_ceil(unit) * size.1.div_ceil(unit)).saturating_mul(258)
        }
    }
}

/// OpenAI's page on images: tiles of 512 pixels, or for the small models patches of 32 with a factor.
fn openai_tokens(size: (u64, u64), detail: Option<&str>, model: &str) -> u64 {
    const PATCHES: [(&str, u64); 7] = [
        ("gpt-4.1-mini", 162),
        ("gpt-4.1-nano", 246),
        ("gpt-5-mini", 162),
        ("gpt-5-nano", 246),
        ("o4-mini", 172),
        ("gpt-5.1-mini", 162),
        ("gpt-5.2-mini", 162),
    ];
    if let Some((_, percent)) = PATCHES.iter().find(|(name, _)| model.contains(name)) {
        let patches = (size.0.div_ceil(32).saturating_mul(size.1.div_ceil(32))).min(1_536);
        return (patches * percent).div_ceil(100);
    }
    let (base, tile) = match model {
        _ if model.contains("gpt-4o-mini") => (2_833, 5_667),
        _ if model.contains("gpt-5") => (70, 140),
        _ if model.starts_with("o1") || model.starts_with("o3") => (75, 150),
        _ => (85, 170),
    };
    if detail == Some("low") {
        return base;
    }
    let (width, height) = fit(size, 2_048);
    let short = width.min(height).max(1);
    let (width, height) = if short > 768 { (width * 768 / short, height * 768 / short) } else { (width, height) };
    base + tile * width.div_ceil(512).max(1) * height.div_ceil(512).max(1)
}

/// The size after shrinking to a longest edge.
fn fit((width, height): (u64, u64), longest: u64) -> (u64, u64) {
    let edge = width.max(height);
    if edge <= longest { (width, height) } else { (width * longest / edge, height * longest / edge) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_weigh_what_the_providers_pages_say() {
        let weigh = |size, detail, model: &str| image_tokens(size, detail, &Family::of(model));
        assert_eq!(weigh((1024, 1024), None, "gpt-4o"), 765);
        assert_eq!(weigh((2048, 4096), Some("high"), "gpt-4o"), 1105);
        assert_eq!(weigh((4096, 4096), Some("low"), "gpt-4o"), 85);
        assert_eq!(weigh((1024, 1024), None, "gpt-4.1-mini"), 1659);
        assert_eq!(weigh((1000, 1000), None, "claude-sonnet-4-5"), 1334);
        assert_eq!(weigh((8000, 8000), None, "claude-sonnet-4-5"), 1600);
        assert_eq!(weigh((300, 200), None, "gemini-2.5-flash"), 258);
        assert_eq!(weigh((960, 540), None, "gemini-2.5-flash"), 6 * 258);
    }

    #[test]
    fn what_lies_elsewhere_weighs_what_a_usual_one_does() {
        let media = |kind, source| Media { kind, mime: "".into(), source, name: None, detail: None };
        let family = Family::of("gpt-4o");
        assert_eq!(tokens(&media(MediaKind::Image, Source::Url("https://x/y.png".into())), &family), 765);
        let pdf = "A".repeat(200_000);
        assert_eq!(tokens(&media(MediaKind::Document, Source::Base64(pdf.into())), &family), 900);
    }
}
