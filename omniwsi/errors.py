"""Every error a user can meet, drawn as a tree. Each message is one line that ends with the cure.

OmniWSIError                 exit status 1 unless said otherwise
├── UsageError               what was asked for cannot be done on any slide          exit 2
│   ├── UnknownTissue        a tissue that these weights do not know
│   └── WeightsError         weights that are missing, damaged or do not fit their card
├── DataError                training data that cannot be used                       exit 2
├── SlideError               this slide cannot be used; others may
│   ├── UnreadableSlide      missing, damaged, not a slide, not allowed
│   ├── NoPixelSize          no physical pixel size that can be trusted
│   └── TooCoarse            the slide is coarser than a tissue can be seen at
└── RunError                 the output folder
    ├── RunExists            it holds the results of something else
    └── RunBusy              another process is writing to it
"""


class OmniWSIError(Exception):
    """Base of everything raised on purpose; `str(error)` is a line for the user."""

    exit_status = 1


class UsageError(OmniWSIError):
    exit_status = 2


class UnknownTissue(UsageError):
    pass


class WeightsError(UsageError):
    pass


class DataError(OmniWSIError):
    exit_status = 2


class SlideError(OmniWSIError):
    pass


class UnreadableSlide(SlideError):
    pass


class NoPixelSize(SlideError):
    pass


class TooCoarse(SlideError):
    pass


class RunError(OmniWSIError):
    pass


class RunExists(RunError):
    pass


class RunBusy(RunError):
    pass
