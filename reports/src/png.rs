//! A picture of a finished chart: the same SVG, so that there is one drawing path.
//!
//! The font lies in this package (Inter, cut down to the signs charts use; its licence is beside it), so a
//! picture does not depend on what is installed. Nothing is loaded: our charts hold no images.

use crate::RenderError;
use resvg::{tiny_skia, usvg};
use std::sync::{Arc, OnceLock};

const REGULAR: &[u8] = include_bytes!("../fonts/Inter-Regular.otf");
const BOLD: &[u8] = include_bytes!("../fonts/Inter-SemiBold.otf");

/// Pixels across: twice the width a chart has on the page.
const WIDTH: f32 = 1440.0;

fn fonts() -> Arc<usvg::fontdb::Database> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let db = FONTS.get_or_init(|| {
        let mut db = usvg::fontdb::Database::new();
        db.load_font_data(REGULAR.to_vec());
        db.load_font_data(BOLD.to_vec());
        db.set_sans_serif_family("Inter");
        Arc::new(db)
    });
    Arc::clone(db)
}

/// Turns the SVG of a [`Chart`](crate::Chart) into a PNG in the light theme, 1440 pixels across.
pub fn png(svg: &str) -> Result<Vec<u8>, RenderError> {
    let fault = |what: String| RenderError::Png(what);
    // The stylesheet holds CSS variables, which only a browser resolves; the attributes hold the light colours.
    let plain = crate::charts::without_style(svg);
    let options = usvg::Options {
        font_family: "Inter".into(),
        fontdb: fonts(),
        image_href_resolver: usvg::ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(&plain, &options).map_err(|e| fault(e.to_string()))?;
    let size = tree.size();
    let scale = WIDTH / size.width();
    let height = (size.height() * scale).ceil();
    if !(1.0..=20_000.0).contains(&height) {
        return Err(fault(format!("it would be {height} pixels high, more than 20000")));
    }
    // Both are checked to be small and positive.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 20000, just checked"
    )]
    let (w, h) = (WIDTH as u32, height as u32);
    let mut pixmap = tiny_skia::Pixmap::new(w, h).ok_or_else(|| fault("no memory for it".into()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|e| fault(e.to_string()))
}
