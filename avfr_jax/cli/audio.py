"""The option `--audio`."""

from avfr_jax.errors import InputError


def chosen_audio(word: str, own_word: str, own: str) -> str | None:
    """The file with the chosen audio; None for none.

    Args:
      word: `none`, `own_word`, or a file.
      own_word: stands for the input's own audio, which it may lack.
      own: the input, a video or a picture.

    Raises:
      InputError: the named file has no audio.
    """
    from avfr_jax.media.audio import has_audio
    from avfr_jax.media.image import is_picture

    if word == "none":
        return None
    if word == own_word:
        return own if not is_picture(own) and has_audio(own) else None
    if not has_audio(word):
        raise InputError(f"{word} has no sound; give another file, or --audio none.")
    return word
