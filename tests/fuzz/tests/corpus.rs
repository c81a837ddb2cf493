//! Each target over its committed corpus and a few seconds of seeded mutations.

use custos_fuzz::{ALL, named, short};

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                short(&named(stringify!($name)).expect("there is such a target"));
            }
        )*

        #[test]
        fn no_target_is_forgotten() {
            let mut run = vec![$(stringify!($name)),*];
            let mut known: Vec<&str> = ALL.iter().map(|target| target.name).collect();
            run.sort_unstable();
            known.sort_unstable();
            assert_eq!(run, known);
        }
    };
}

targets!(words envelope message state checkpoint journal list config policy mark estimate follower rest);

/// A harness that finds nothing would pass for ever.
mod controls {
    use custos_fuzz::{Chance, join, mutate, split};

    #[test]
    fn mutations_are_the_same_for_the_same_seed_and_many() {
        let corpus = vec![b"{\"amount\":\"1\"}".to_vec(), b"other".to_vec()];
        let drawn = |seed| {
            let mut chance = Chance::new(seed);
            (0..1_000).map(|_| mutate(&mut chance, &corpus[0], &corpus, &["word"])).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        let different: std::collections::BTreeSet<Vec<u8>> = drawn(1).into_iter().collect();
        assert!(different.len() > 700, "{}", different.len());
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn a_defect_that_needs_a_word_and_a_bit_is_found() {
        let corpus = vec![b"{\"amount\":\"1\"}".to_vec()];
        let mut chance = Chance::new(1);
        let found = (0..20_000).any(|_| {
            let input = mutate(&mut chance, &corpus[0], &corpus, &["1e9"]);
            let text = String::from_utf8_lossy(&input).into_owned();
            text.contains("\"1e9\"")
        });
        assert!(found);
    }

    #[test]
    fn parts_are_split_as_they_were_joined_and_any_bytes_have_parts() {
        let parts: Vec<&[u8]> = vec![b"", b"a", &[255; 300]];
        assert_eq!(split(&join(&parts)), parts);
        assert_eq!(split(&[255, 255, 1, 2]), [&[1, 2][..]]);
        assert_eq!(split(&[7]), Vec::<&[u8]>::new());
    }
}
