//! The pages in `docs/sagas` say what the code says. `CUSTOS_BLESS=1` writes them.

use std::path::Path;

use custos_accounts::REGISTRY;
use custos_saga::page;

#[test]
fn the_rendered_sagas_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sagas");
    for shape in REGISTRY.0 {
        let (path, text) = (folder.join(format!("{}.md", shape.name())), page(*shape));
        if std::env::var_os("CUSTOS_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, text, "{} differs: CUSTOS_BLESS=1 cargo test -p custos-accounts writes it", path.display());
    }
}
