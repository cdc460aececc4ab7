"""The word that says which sound goes along."""

from avfr_jax.errors import InputError


def chosen_sound(word: str, own_word: str, own: str) -> str | None:
    """The file whose sound is meant; None for none.

    Args:
      word: what the user said: `none`, `own_word`, or a file.
      own_word: stands for the input's own sound, which it may lack.
      own: the input, a video or a picture.

    Raises:
      InputError: the file that was named has no sound.
    """
    from avfr_jax.media.audio import has_audio
    from avfr_jax.media.image import is_image

    if word == "none":
        return None
    if word == own_word:
        return own if not is_image(own) and has_audio(own) else None
    if not has_audio(word):
        raise InputError(f"{word} has no sound; give another file, or --audio none.")
    return word
